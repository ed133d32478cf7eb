"""Values to codes, by one rounding, in integer arithmetic on the bit patterns of the source."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat, IntRange, NanRule, Overflow, Rounding
from incref.numerics.checks import require_not_nan
from incref.numerics.patterns import Patterns
from incref.numerics.rounding import round_shift

__all__ = ["Encoding", "encode_patterns"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A target format with the choices that an encoding into it has to make."""

    fmt: ElementFormat
    rounding: Rounding
    overflow: Overflow
    nan: NanRule
    int_range: IntRange = IntRange.FULL


def encode_patterns(
    source: Patterns, to: Encoding, *, random_bits: Tensor | None = None, exponent: Tensor | None = None
) -> Tensor:
    """Encode the values behind `source`, each divided by `2**exponent` exactly.

    Args:
        source: patterns, any shape.
        to: the target.
        random_bits: for stochastic rounding, in the shape of `source`.
        exponent: integers of the dtype of `source`, broadcastable to its shape, or None for 0.

    Returns:
        Codes in the integer dtype of `source`: two's complement for signed integer formats, else not negative.
    """
    fmt = to.fmt
    sign_mask = source.signed >> (source.layout.bits - 1)
    if isinstance(fmt, CodebookFormat):
        from incref.numerics.codebook import codebook_codes  # noqa: PLC0415  # fractions, which few formats need

        code, escapes = codebook_codes(source, fmt, rounding=to.rounding, overflow=to.overflow)
        is_nan = (source.magnitude > source.inf) | escapes
        return _put_nan(code, is_nan, to, torch.where(sign_mask < 0, 0, fmt.max_code))
    # Where the grid reaches below the smallest normal of the source, its subnormals need their true exponent.
    normalize = exponent is not None or (isinstance(fmt, FloatFormat) and fmt.emin < source.layout.emin)
    significand, power = _split(source, normalize=normalize)
    if exponent is not None:
        # Infinity stays beyond every range, whatever it is divided by.
        power = torch.where(source.magnitude >= source.inf, source.layout.emax + 1, power - exponent)
    if isinstance(fmt, FloatFormat):
        return _encode_float(source, significand, power, sign_mask, fmt=fmt, to=to, random_bits=random_bits)
    return _encode_int(source, significand, power, sign_mask, fmt=fmt, to=to, random_bits=random_bits)


def _split(source: Patterns, *, normalize: bool) -> tuple[Tensor, Tensor]:
    """Split magnitudes into `significand * 2**(power - mantissa_bits)`; Inf and NaN as if they were finite.

    Unless `normalize`, subnormals keep the power of the smallest normal and a significand without a leading one.
    """
    width = source.layout.mantissa_bits
    pattern = source.magnitude
    field = pattern >> width
    if normalize:
        # A subnormal is the integer `magnitude` times a power of two. The float of that integer is exact and normal.
        as_float = pattern.to(torch.float64 if source.layout.bits == 64 else torch.float32).view(pattern.dtype)
        is_subnormal = field == 0
        offset = width - source.layout.emin
        field = torch.where(is_subnormal, (as_float >> width) - offset, field)
        pattern = torch.where(is_subnormal, as_float, pattern)
        has_leading_one = (source.magnitude != 0).to(field.dtype)
    else:
        has_leading_one = field.clamp(max=1)
        field = field.clamp(min=1)
    fraction = pattern & ((1 << width) - 1)
    return fraction | (has_leading_one << width), field - source.layout.bias


def _encode_float(
    source: Patterns,
    significand: Tensor,
    power: Tensor,
    sign_mask: Tensor,
    *,
    fmt: FloatFormat,
    to: Encoding,
    random_bits: Tensor | None,
) -> Tensor:
    width = source.layout.mantissa_bits
    # Where the target is as fine as the source nothing is shifted out; spare bits keep every shift positive.
    spare = max(0, fmt.mantissa_bits - width + 1)
    grid = power.clamp(min=fmt.emin)
    base = (grid - fmt.emin) << fmt.mantissa_bits
    if not fmt.has_zero:
        # Codes start at the smallest normal value, so zero would be the one before the first: -1.
        base = base - (1 << fmt.mantissa_bits)
    code = round_shift(
        significand << spare,
        grid - power + (width - fmt.mantissa_bits + spare),
        base,
        sign_mask,
        width=width + 1 + spare,
        rounding=to.rounding,
        random_bits=random_bits,
    )
    is_nan = source.magnitude > source.inf
    rounded, code = code, code.clamp(0, fmt.max_code)
    is_below = None
    if not fmt.is_signed:
        # -0 is zero, so it is below the range only where there is no zero.
        is_below = (rounded < 0) | ((sign_mask < 0) & (rounded >= fmt.has_zero))
        code = torch.where(is_below, 0, code)
    if to.overflow is not Overflow.SATURATE:
        escapes = source.magnitude == source.inf
        if to.overflow is Overflow.NONSATURATE:
            escapes = escapes | ((rounded > fmt.max_code) & _may_overflow(to.rounding, sign_mask))
            escapes = escapes if is_below is None else escapes | is_below
        if fmt.inf_code is not None:
            to_inf = escapes if is_below is None else escapes & ~is_below
            code = torch.where(to_inf, fmt.inf_code, code)
            escapes = escapes & ~to_inf
        is_nan = is_nan | escapes
    sign = sign_mask & fmt.sign_code
    if fmt.nan_code is None:
        return _put_nan(code | sign, is_nan, to, sign | fmt.max_code)
    if fmt.has_signed_nan:
        return torch.where(is_nan, fmt.nan_code, code) | sign
    if fmt.is_signed:
        code = torch.where(code == 0, 0, code | sign)
    return torch.where(is_nan, fmt.nan_code, code)


def _may_overflow(rounding: Rounding, sign_mask: Tensor) -> Tensor | bool:
    """Whether a finite value may leave the range: not where it is rounded toward zero (IEEE 754-2019, 7.4)."""
    match rounding:
        case Rounding.TOWARD_ZERO:
            return False
        case Rounding.TOWARD_POSITIVE:
            return sign_mask == 0
        case Rounding.TOWARD_NEGATIVE:
            return sign_mask != 0
        case _:
            return True


def _encode_int(
    source: Patterns,
    significand: Tensor,
    power: Tensor,
    sign_mask: Tensor,
    *,
    fmt: IntFormat,
    to: Encoding,
    random_bits: Tensor | None,
) -> Tensor:
    width = source.layout.mantissa_bits
    least = -fmt.max_code if fmt.is_signed and to.int_range is IntRange.RESTRICTED else fmt.min_code
    # A shift below 1 would belong to a magnitude beyond 2**(width - 1), which is outside every range either way.
    shift = (width - fmt.fraction_bits - power).clamp(min=1)
    magnitude = round_shift(
        significand, shift, 0, sign_mask, width=width + 1, rounding=to.rounding, random_bits=random_bits
    )
    rounded = (magnitude ^ sign_mask) - sign_mask
    code = rounded.clamp(least, fmt.max_code)
    is_nan = source.magnitude > source.inf
    match to.overflow:
        case Overflow.SATURATE_FINITE:
            is_nan = is_nan | (source.magnitude == source.inf)
        case Overflow.NONSATURATE:
            is_nan = is_nan | (rounded != code)
    return _put_nan(code, is_nan, to, torch.where(sign_mask < 0, least, fmt.max_code))


def _put_nan(code: Tensor, is_nan: Tensor, to: Encoding, largest: Tensor) -> Tensor:
    """Replace what should be NaN in a format that has none by what the rule says; `largest` has the sign of the NaN."""
    match to.nan:
        case NanRule.ERROR:
            require_not_nan(is_nan, f"{to.fmt.name} has no NaN for the elements that are, or become, NaN")
            return code
        case NanRule.MAX:
            return torch.where(is_nan, largest, code)
        case NanRule.ZERO:
            zero = to.fmt.values.index(0.0) if isinstance(to.fmt, CodebookFormat) else 0
            return torch.where(is_nan, zero, code)
