"""`encode`: one cast."""

from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Overflow, Rounding
from incref_kernels.hpu.casts import to_float8, why_not_encoding

__all__ = ["KERNEL", "encode"]


def encode(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,  # noqa: ARG001  # why_not takes one value only
    overflow: Overflow = Overflow.SATURATE,  # noqa: ARG001  # likewise
    nan: NanRule = NanRule.ERROR,  # noqa: ARG001  # the formats have a NaN
    int_range: IntRange = IntRange.FULL,  # noqa: ARG001  # likewise
    random_bits: Tensor | None = None,  # noqa: ARG001  # likewise
) -> Tensor:
    """Run `incref.ops.encode` by `cast_to_fp8_v2`."""
    return to_float8(x, None, fmt)


def why_not(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    **_options: object,
) -> str | None:
    """Say which arguments the cast can't take."""
    return why_not_encoding(x, fmt, rounding, overflow)


KERNEL = Kernel(fn=encode, why_not=why_not)
