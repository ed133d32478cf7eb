"""What is not known of the arithmetic of Gaudi: one option for each question, whose default is the likeliest answer.

`Mode` alone is no question: it says which of the ways to run the vendor's software is played.
"""

from enum import Enum

__all__ = [
    "Denormals",
    "Inf",
    "Int4ToFloat8",
    "Mode",
    "Nan",
    "Scaling",
    "Softmax",
    "StochasticDenormals",
    "Sum",
    "Sums",
]


class Mode(Enum):
    """How operators run."""

    LAZY = "lazy"
    """They are gathered in a graph, which `mark_step` cuts (PT_HPU_LAZY_MODE=1)."""
    EAGER = "eager"
    """Each by itself (PT_HPU_LAZY_MODE=0). There are no 4-bit weights then."""
    COMPILE = "compile"
    """In a graph of `torch.compile` (PT_HPU_LAZY_MODE=0)."""


class Sums(Enum):
    """How the products of a matrix multiplication are added."""

    EXACT = "exact"
    """Exactly, and rounded once to float32: what every accumulator comes near to, and the same bits everywhere."""
    FLOAT32 = "float32"
    """In float32, in whatever order PyTorch has on this machine."""
    STEPS = "steps"
    """In the steps of the vendor's functional simulator: `gaudi2_mme_fp8` or `gaudi3_mme_fp8` of `MACHINES`. Slow."""


class Scaling(Enum):
    """Where `fp8_gemm_v2` multiplies with its scales, `acc` being the sum in float32."""

    BEFORE_ROUNDING = "before_rounding"
    """`acc * (a * b) + bias + D`, every step in float32; then one rounding to the dtype of the result."""
    AFTER_ROUNDING = "after_rounding"
    """`acc` is rounded to the dtype of the result, and every step that follows is in that dtype."""


class Inf(Enum):
    """What a cast to 8 bits makes of Inf."""

    LARGEST = "largest"
    """The largest value of its sign."""
    KEPT = "kept"
    """Inf where the format has one, else NaN."""


class Nan(Enum):
    """What a cast to 8 bits makes of NaN."""

    POSITIVE = "positive"
    """The code 0x7F, whatever the sign."""
    SIGNED = "signed"
    """0x7F or 0xFF, by the sign."""


class Denormals(Enum):
    """What a cast to 8 bits makes of a value below the normal ones of the format."""

    ROUNDED = "rounded"
    """The nearest subnormal."""
    ZERO = "zero"
    """The zero of its sign, also where it would round up to the smallest normal value."""


class Int4ToFloat8(Enum):
    """How `convert_from_uint4` and `convert_from_int4` round to 8 bits."""

    ONCE = "once"
    """The product in float32, then to 8 bits."""
    BY_SCALE = "by_scale"
    """The product in the dtype of the scale, then to 8 bits."""


class StochasticDenormals(Enum):
    """What stochastic rounding of bfloat16 to E5M2 makes of a value below the normal ones (SFTZ)."""

    STOCHASTIC = "stochastic"
    """One of its neighbours, zero among them: what a test of the vendor expects, which is marked as failing."""
    NEAREST = "nearest"
    """The nearest subnormal, as the matrix unit has a mode for."""
    ZERO = "zero"
    """The zero of its sign."""


class Sum(Enum):
    """How `sum_fp8` rounds its sum to 8 bits."""

    ONCE = "once"
    """The exact sum, at once."""
    BY_BFLOAT16 = "by_bfloat16"
    """To bfloat16 before."""


class Softmax(Enum):
    """How `softmax_fp8` rounds; `y` is the softmax."""

    BFLOAT16 = "bfloat16"
    """Every product and sum before the softmax, `y` and its product with the scale to bfloat16; then to E4M3. The
    vendor's test computes this, and compares to an eighth."""
    FLOAT32 = "float32"
    """Everything before and after in float32, and once to the result."""
