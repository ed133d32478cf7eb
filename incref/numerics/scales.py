"""From the largest magnitude of a block to its scale."""

import torch
from torch import Tensor

from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat, ScaleRule, SymmetricScale
from incref.numerics.patterns import float_format_of

__all__ = ["affine_scale", "float_scale", "grid_limit", "scale_codes", "scale_exponent"]


def scale_exponent(amax: Tensor, layout: FloatFormat, element: ElementFormat, rule: ScaleRule) -> Tensor:
    """Exponent of the power of two that `rule` gives, not yet clamped to a scale format.

    All four rules are the floor of a logarithm that is carried up by one from some fraction on: the exponent is
    `floor(log2(amax)) - emax`, plus 1 where the fraction of amax reaches a threshold that belongs to the rule.

    Args:
        amax: finite magnitude patterns, any shape; for 0 the exponent is below that of any other.
        layout: the format of the patterns.
        element: the format of the elements.
        rule: one that gives powers of two.

    Raises:
        ValueError: if `rule` does not.
    """
    width = layout.mantissa_bits
    match rule:
        case ScaleRule.FLOOR:
            threshold = 1 << width
        case ScaleRule.CEIL:
            threshold = 1
        case ScaleRule.RCEIL:
            # amax / qmax exceeds 2**(exponent of amax - emax) where the significand of amax exceeds that of qmax.
            threshold = int((element.qmax / 2.0**element.emax - 1) * (1 << width)) + 1
        case ScaleRule.EVEN:
            # Rounded to the fraction bits of the element, ties away, amax carries from here on; never if those suffice.
            if isinstance(element, CodebookFormat):
                raise ValueError(  # noqa: TRY004  # the format is of a right type; the rule has no use for it
                    f"EVEN rounds to the precision of a float or integer format, and {element.name} has none"
                )
            precision = element.mantissa_bits if isinstance(element, FloatFormat) else element.max_code.bit_length() - 1
            threshold = (1 << width) - ((1 << width) >> (precision + 1))
        case _:
            raise ValueError(f"{rule} does not give powers of two; use FLOOR, CEIL, EVEN or RCEIL")
    # A subnormal is an integer times the least value: the float of that integer has the same fraction, normalized.
    is_subnormal = amax < (1 << width)
    as_float = amax.to(torch.float64 if layout.bits == 64 else torch.float32).view(amax.dtype)
    pattern = torch.where(is_subnormal, as_float, amax) + ((1 << width) - threshold)
    power = (pattern >> width) - layout.bias + torch.where(is_subnormal, layout.emin - width, 0)
    return power - element.emax


def scale_codes(exponent: Tensor, is_nan: Tensor, fmt: FloatFormat) -> Tensor:
    """Codes of `2**exponent` in a scale format without mantissa, such as E8M0; its NaN where `is_nan`."""
    assert fmt.nan_code is not None
    return torch.where(is_nan, fmt.nan_code, exponent + fmt.bias).to(torch.uint8)


def grid_limit(fmt: ElementFormat, symmetric_scale: SymmetricScale) -> float:
    """The number that the largest magnitude is divided by to give a symmetric scale.

    Raises:
        ValueError: if `fmt` is an unsigned integer format, which has no symmetric grid.
    """
    if not isinstance(fmt, IntFormat):
        return max(fmt.qmax, -fmt.qmin)
    if not fmt.is_signed:
        raise ValueError(f"{fmt.name} is unsigned; a symmetric scale needs a signed format, such as int{fmt.bits}")
    match symmetric_scale:
        case SymmetricScale.QMAX:
            return fmt.qmax
        case SymmetricScale.SPAN:
            return (fmt.qmax - fmt.qmin) / 2
        case SymmetricScale.EXTREME:
            return -fmt.qmin


def float_scale(amax: Tensor, limit: float, rule: ScaleRule) -> Tensor:
    """Scale that puts `amax` on `limit`: `amax / limit` or `amax * (1 / limit)`.

    Args:
        amax: float32 or float64, not negative.
        limit: exact in the dtype of `amax`.
        rule: DIVIDE or RECIPROCAL.

    Returns:
        Scales of the dtype of `amax`: 1 where it is 0; NaN where it is NaN or Inf; elsewhere at least the smallest
        normal value, so that no reciprocal overflows.
    """
    divisor = torch.tensor(limit, dtype=amax.dtype, device=amax.device)
    scale = amax / divisor if rule is ScaleRule.DIVIDE else amax * (1.0 / divisor)
    scale = scale.clamp(min=float_format_of(amax.dtype).smallest_normal)
    # Compared as an integer, since a processor may take a subnormal for zero.
    is_zero = amax.view(torch.int64 if amax.itemsize == 8 else torch.int32) == 0
    # The NaN is written, not computed: what sign a computed one has is the processor's choice.
    return torch.where(is_zero, 1.0, torch.where(amax.isfinite(), scale, torch.nan))


def affine_scale(below: Tensor, above: Tensor, fmt: IntFormat, rule: ScaleRule) -> tuple[Tensor, Tensor]:
    """Scale and zero point that put the interval `[-below, above]` on the codes of `fmt`.

    Args:
        below: float32 or float64, minus the least element, or 0 if that is positive.
        above: the greatest element, or 0 if that is negative.
        fmt: an integer format.
        rule: DIVIDE or RECIPROCAL.

    Returns:
        `scale = (above + below) / (2**bits - 1)`, as `float_scale` has it, the sum rounded to the dtype first and
        limited to its largest finite value; `zero_point = clamp(round(below / scale) + min_code)`, int32, ties to even.
    """
    span = above + below
    is_finite = above.isfinite() & below.isfinite()
    span = torch.where(is_finite, span.clamp(max=float_format_of(span.dtype).qmax), torch.nan)
    scale = float_scale(span, float(fmt.num_codes - 1), rule)
    zero = torch.where(is_finite, torch.round(below / scale), 0.0) + fmt.min_code
    return scale, zero.clamp(fmt.min_code, fmt.max_code).to(torch.int32)
