"""`quantize_float`: the scale, then one cast that multiplies with its reciprocal."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import require_scale
from incref.ops.compute_scale import compute_scale
from incref_kernels.hpu.casts import to_float8, why_not_encoding
from incref_kernels.hpu.scales import float_scale, is_power_of_two, why_not_granularity

__all__ = ["KERNEL", "quantize_float"]


def quantize_float(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,  # noqa: ARG001  # why_not takes what a product gives
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,  # noqa: ARG001  # why_not takes one value only
    overflow: Overflow = Overflow.SATURATE,  # noqa: ARG001  # likewise
    nan: NanRule = NanRule.ERROR,  # noqa: ARG001  # the formats have a NaN
    random_bits: Tensor | None = None,  # noqa: ARG001  # likewise
    number: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `incref.ops.quantize_float` by `cast_to_fp8_v2`, which multiplies in the dtype of its input.

    For `QuotientDtype.COMPUTE` the input is converted to float32 before. `number` is the reciprocal of the scale in
    float32, if the scale is known before.
    """
    values = x if quotient is QuotientDtype.INPUT else x.to(torch.float32)
    if number is not None:
        assert scale is not None
        return to_float8(values, number, fmt), scale
    if scale is None:
        found = compute_scale(x, fmt, granularity, rule=rule)
        assert isinstance(found, Tensor)
        scale = found
    factor = 1.0 / float_scale(require_scale("scale", scale, x.shape, granularity))
    return to_float8(values, factor, fmt), scale


def why_not(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    **_options: object,
) -> str | None:
    """Say which arguments the cast can't take."""
    reason = why_not_encoding(x, fmt, rounding, overflow) or why_not_granularity(x.shape, granularity)
    if reason is not None:
        return reason
    if scale is not None and scale.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.uint8):
        return f"scales are float32, bfloat16, float16 or codes of E8M0, got {scale.dtype}"
    is_narrow = quotient is QuotientDtype.INPUT and x.dtype is not torch.float32
    if arithmetic is ScaleArithmetic.DIVIDE:
        known = rule.is_power_of_two if scale is None else is_power_of_two(scale)
        if not known or is_narrow:
            return "casts multiply with the reciprocal of a scale; use ScaleArithmetic.RECIPROCAL, or powers of two"
    return None


def with_scales(*, scale: Tensor) -> Kernel:
    """Make the kernel that knows the scale as a number."""
    reciprocal = (1.0 / float_scale(scale)).item()
    return Kernel(fn=partial(quantize_float, number=reciprocal), why_not=why_not)


KERNEL = Kernel(fn=quantize_float, why_not=why_not, with_scales=with_scales)
