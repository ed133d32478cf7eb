"""Choices that a conversion has to make, each member documented by its formula.

Functions take the members; configurations and the command line take their lower-case names
(`Rounding("nearest_even")`).
"""

from enum import Enum

__all__ = [
    "BlockRule",
    "IntRange",
    "NanRule",
    "Overflow",
    "QuotientDtype",
    "Rounding",
    "ScaleArithmetic",
    "ScaleOrder",
    "ScaleRule",
    "SymmetricScale",
]


class Rounding(Enum):
    """Which neighbour a value between two representable ones becomes.

    For a real `x` between the neighbours `lo < x < hi` in magnitude, with `f = (|x| - lo) / (hi - lo)`:
    """

    NEAREST_EVEN = "nearest_even"
    """`lo` if f < 1/2, `hi` if f > 1/2; at f = 1/2 the one whose code is even (IEEE 754-2019, 4.3.1)."""
    NEAREST_AWAY = "nearest_away"
    """`lo` if f < 1/2, else `hi` (IEEE 754-2019, 4.3.1, roundTiesToAway)."""
    TOWARD_ZERO = "toward_zero"
    """`lo`."""
    TOWARD_POSITIVE = "toward_positive"
    """`hi` if x > 0, else `lo`."""
    TOWARD_NEGATIVE = "toward_negative"
    """`hi` if x < 0, else `lo`."""
    STOCHASTIC = "stochastic"
    """`hi` if `floor(f * 2**N) + R >= 2**N`, else `lo`, for N random bits that are given as the integer R.

    N is the width of the dtype of `random_bits`, read as unsigned. (P3109 interim report 4.0, StochasticA.)
    """


class Overflow(Enum):
    """What a value becomes whose rounded result lies outside the format's range.

    A value is rounded first, as if the exponent had no upper limit, and then compared with the range. The range of an
    unsigned format starts at its least value, so a negative result is outside; where a format has no zero (E8M0), a
    zero is outside too. An infinite input is always outside; a finite one that is rounded toward zero in a float format
    stays at the end of the range (IEEE 754-2019, 7.4).
    """

    SATURATE = "saturate"
    """The nearest end of the range, for finite and infinite inputs (OFP8 1.0, saturating mode)."""
    SATURATE_FINITE = "saturate_finite"
    """Finite inputs as in SATURATE; infinite inputs as in NONSATURATE."""
    NONSATURATE = "nonsaturate"
    """Inf where the format has one of that sign, else NaN, else whatever the `NanRule` says."""


class NanRule(Enum):
    """What a NaN becomes in a format that has no code for it. Formats with a NaN ignore this."""

    ERROR = "error"
    """Raise `NanError`."""
    MAX = "max"
    """The greatest value if the sign bit of the NaN is 0, else the least."""
    ZERO = "zero"
    """+0."""


class BlockRule(Enum):
    """What one NaN, or one Inf, does to the block that it stands in."""

    NAN_BLOCK = "nan_block"
    """The scale becomes NaN, so that every element of the block decodes to NaN (OCP MX 1.0, 5.1: X = NaN)."""
    ELEMENT = "element"
    """The scale is taken from the finite elements; the special one is encoded alone by the element's own rules."""
    SATURATE = "saturate"
    """The scale becomes its greatest finite value; the special one is encoded alone by the element's own rules."""


class ScaleRule(Enum):
    """How the largest magnitude of a block, `amax`, becomes its scale.

    `qmax` is the largest value of the element format and `emax = floor(log2(qmax))`. The last four give powers of two
    and are computed exactly, also for a subnormal `amax`; their exponent is then clamped to the range of the scale
    format.
    """

    DIVIDE = "divide"
    """`amax / qmax`, one rounding."""
    RECIPROCAL = "reciprocal"
    """`amax * (1 / qmax)`, two roundings: of the reciprocal, then of the product."""
    FLOOR = "floor"
    """`2**(floor(log2(amax)) - emax)` (OCP MX 1.0, 6.3)."""
    CEIL = "ceil"
    """`2**(ceil(log2(amax)) - emax)`."""
    EVEN = "even"
    """`2**(floor(log2(r)) - emax)`, r being amax rounded to the element's precision with ties away from zero.

    So the exponent goes up when the significand of amax is at least `2 - 2**-(mantissa_bits + 1)`.
    """
    RCEIL = "rceil"
    """`2**ceil(log2(amax / qmax))`: the least power of two for which nothing overflows."""

    @property
    def is_power_of_two(self) -> bool:
        """Whether every scale is a power of two."""
        return self not in (ScaleRule.DIVIDE, ScaleRule.RECIPROCAL)


class ScaleArithmetic(Enum):
    """How a value is divided by its scale before it is rounded to a code. All in the compute dtype."""

    DIVIDE = "divide"
    """`x / scale`, one rounding."""
    RECIPROCAL = "reciprocal"
    """`x * (1 / scale)`, two roundings: of the reciprocal, then of the product."""


class QuotientDtype(Enum):
    """Which dtype a value divided by its scale is rounded to, before it is rounded to a code."""

    COMPUTE = "compute"
    """float32, or float64 for float64 values: the second rounding is to the format alone, but for rare ties."""
    INPUT = "input"
    """That of the value. What it is divided by, or multiplied with, is rounded to it first: `x * s` with s the
    reciprocal of the scale, rounded to float32 and then to that dtype; for DIVIDE, `x / s` with s the scale.

    So does a unit that scales bfloat16 values in bfloat16 and then casts (Gaudi's `cast_to_fp8_v2`): a product is
    rounded to 8 bits before it is rounded to a code, which is another one wherever that made it a tie. The same as
    COMPUTE for float32 and float64 values, and where products are exact: for powers of two, but for underflow.
    """


class ScaleOrder(Enum):
    """Where the scales of two factors enter their product, `acc` being the exact sum of products of their codes.

    Every step is rounded to float32, to nearest even, `acc` too; a bias is added after the scales, with one more
    rounding, and the result is rounded to its dtype. Where scales differ along K, all of this but the bias is done for
    each stretch of K in which they don't, and the results are added in float32, to nearest even, in the order of K.
    """

    EXACT = "exact"
    """`sum((x * x_scale) * (w * w_scale)) + bias`, rounded once, to the dtype of the result."""
    PRODUCT = "product"
    """`acc * (x_scale * w_scale)`."""
    X_THEN_W = "x_then_w"
    """`(acc * x_scale) * w_scale`."""
    W_THEN_X = "w_then_x"
    """`(acc * w_scale) * x_scale`."""


class IntRange(Enum):
    """Which codes of a signed integer format of b bits are used."""

    FULL = "full"
    """`-2**(b-1) .. 2**(b-1) - 1`."""
    RESTRICTED = "restricted"
    """`-(2**(b-1) - 1) .. 2**(b-1) - 1`, symmetric about zero."""


class SymmetricScale(Enum):
    """Which magnitude a symmetric integer grid of b bits puts where."""

    QMAX = "qmax"
    """`scale = amax / (2**(b-1) - 1)`: amax falls on the greatest code."""
    SPAN = "span"
    """`scale = 2 * amax / (2**b - 1)`: the grid of GPTQ (arXiv 2210.17323), half a step beyond either end code."""
    EXTREME = "extreme"
    """`scale = -extreme / 2**(b-1)`, extreme being the element of largest magnitude (the negative one if two are
    equal).

    It falls exactly on the least code, so the scale is negative where the extreme is positive. Needs `IntRange.FULL`.
    """
