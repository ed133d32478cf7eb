"""Faults of `quantize_affine`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.formats import (
    FORMATS,
    IntFormat,
    IntRange,
    NanRule,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import compute_scale, decode, quantize_affine


class Affine(Kernel):
    """Spreads scales over the elements and works on whole tensors."""

    op = "quantize_affine"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        fmt: str,
        scale: Tensor | None = None,
        zero_point: Tensor | None = None,
        *,
        granularity: Granularity = PER_TENSOR,
        rule: ScaleRule = ScaleRule.DIVIDE,
        symmetric: bool = True,
        symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
        int_range: IntRange = IntRange.FULL,
        arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
        rounding: Rounding = Rounding.NEAREST_EVEN,
        nan: NanRule = NanRule.ERROR,
        random_bits: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Quantize."""
        to = FORMATS[fmt]
        assert isinstance(to, IntFormat)
        if scale is None:
            found = compute_scale(x, fmt, granularity, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
            scale, zero_point = found if isinstance(found, tuple) else (found, None)
        compute = torch.float64 if x.dtype is torch.float64 else torch.float32
        values = decode(scale, "float8_e8m0fnu", dtype=compute) if scale.dtype is torch.uint8 else scale
        quotient = self.divide(x.to(compute), self.spread(values, x.shape, granularity), arithmetic)
        whole = self.round(quotient, rounding, random_bits)
        zero = None if zero_point is None else self.spread(zero_point, x.shape, granularity).to(compute)
        least = -to.max_code if int_range is IntRange.RESTRICTED and to.is_signed else to.min_code
        codes = self.finish(whole, zero, least, to.max_code)
        of_nan = self.of_nan(zero, to).clamp(least, to.max_code)
        codes = torch.where(quotient.isnan(), of_nan, codes).to(code_dtype(to))
        return (codes, scale) if zero_point is None else (codes, scale, zero_point)

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale, shape, granularity)

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x / scale if arithmetic is ScaleArithmetic.DIVIDE else x * (1 / scale)

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        match rounding:
            case Rounding.NEAREST_EVEN:
                return x.round()
            case Rounding.NEAREST_AWAY:
                size = x.abs()
                return torch.where(size - size.floor() >= 0.5, size.ceil(), size.floor()).copysign(x)
            case Rounding.TOWARD_ZERO:
                return x.trunc()
            case Rounding.TOWARD_POSITIVE:
                return x.ceil()
            case Rounding.TOWARD_NEGATIVE:
                return x.floor()
            case Rounding.STOCHASTIC:
                assert random_bits is not None
                size = x.abs()
                up = ((size - size.floor()) * 256).floor() + random_bits >= 256
                return (size.floor() + up).copysign(x)

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return (whole if zero is None else whole + zero).clamp(least, most)

    def of_nan(self, zero: Tensor | None, to: IntFormat) -> Tensor:
        return torch.zeros(()) if zero is None else zero


class ReciprocalForDivision(Affine):
    """The product with the reciprocal of the scale stands for the division."""

    source = "https://github.com/pytorch/FBGEMM/issues/2816"

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x * (1 / scale)


class DivisionForReciprocal(Affine):
    """The division stands for the product with the reciprocal of the scale."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x / scale


class QuotientInBfloat16(Affine):
    """bfloat16 values are divided in bfloat16, so the quotient is rounded twice."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return super().divide(x, scale, arithmetic).to(torch.bfloat16).to(x.dtype)


class TiesAway(Affine):
    """Half a code is added and the rest cut off."""

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        away = rounding is Rounding.NEAREST_EVEN
        return super().round(x, Rounding.NEAREST_AWAY if away else rounding, random_bits)


class HalfAddedInFloat(Affine):
    """Half a code is added in float, which rounds the greatest value below a half up to one."""

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        if rounding is Rounding.NEAREST_AWAY:
            return (x.abs() + 0.5).floor().copysign(x)
        return super().round(x, rounding, random_bits)


class CutOff(Affine):
    """The conversion to an integer cuts off."""

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        return x.trunc() if rounding is Rounding.NEAREST_EVEN else super().round(x, rounding, random_bits)


class RandomBitsReused(Affine):
    """Every row gets the random bits of the first one."""

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        bits = None if random_bits is None else random_bits[:1].expand_as(random_bits)
        return super().round(x, rounding, bits)


class RangeFullWhenRestricted(Affine):
    """The least code, -128, is used though the range is restricted."""

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole, zero, least - (least == -most), most)


class RangeRestrictedWhenFull(Affine):
    """The least code, -128, is never used."""

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole, zero, least + (least == -most - 1), most)


class ZeroPointAfterClamp(Affine):
    """The quotient is clamped to the codes before the zero point is added, and the sum once more."""

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole.clamp(least, most), zero, least, most)


class ZeroPointBeforeRounding(Affine):
    """The zero point is added to the quotient before it is rounded: ties go by the parity of the sum."""

    def round(self, x: Tensor, rounding: Rounding, random_bits: Tensor | None) -> Tensor:
        return x if rounding is Rounding.NEAREST_EVEN else super().round(x, rounding, random_bits)

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole, zero, least, most).round()


class ZeroPointIgnored(Affine):
    """The zero point is not added."""

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole, None, least, most)


class ZeroPointOffByOne(Affine):
    """The zero point is kept less one and not restored."""

    source = "the zero points of AutoGPTQ's first format"

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        return super().finish(whole, None if zero is None else zero - 1, least, most)


class CodesWrap(Affine):
    """What is beyond the codes wraps around: the conversion to eight bits does not saturate."""

    def finish(self, whole: Tensor, zero: Tensor | None, least: int, most: int) -> Tensor:
        total = (whole if zero is None else whole + zero).clamp(-1e6, 1e6)
        span = 256
        low = -128 if least < 0 else 0
        wrapped = (total - low) % span + low
        return torch.where(total.abs() <= 400, wrapped, total).clamp(least, most)


class NanIsLeastCode(Affine):
    """A NaN becomes the least code: the conversion to an integer makes INT_MIN of it."""

    def of_nan(self, zero: Tensor | None, to: IntFormat) -> Tensor:
        return torch.tensor(float(to.min_code))


class ScaleOfWrongRow(Affine):
    """Scales are indexed with the stride of the columns."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale.reshape(scale.shape[::-1]).T if scale.ndim == 2 else scale, shape, granularity)


class TailGroupHasFirstScale(Affine):
    """The last, shorter group is quantized with the scale of the group before it."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        found = spread(scale, shape, granularity).clone()
        extent = granularity.block_shape(shape)[-1] if shape else 1
        if shape and (rest := shape[-1] % extent) and shape[-1] > extent:
            found[..., -rest:] = found[..., -rest - 1 : -rest]
        return found


class GroupsOneTooLong(Affine):
    """A group is taken for one element longer than it is."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        found = spread(scale, shape, granularity)
        extent = granularity.block_shape(shape)[-1] if shape else 1
        if not shape or extent in (1, shape[-1]):
            return found
        at = [min(k // (extent + 1) * extent, shape[-1] - 1) for k in range(shape[-1])]
        return found[..., at]


class WellScaledOnly(Affine):
    """The quotient is limited to 2**15 to convert it to 16 bits, and NaN is not looked at."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return super().divide(x, scale.abs().clamp(2.0**-64, 2.0**64).copysign(scale), arithmetic)


class GivenScaleRecomputed(Kernel):
    """The scale that is given is not used: it is computed again."""

    op = "quantize_affine"

    def __call__(
        self, x: Tensor, fmt: str, scale: Tensor | None = None, zero_point: Tensor | None = None, **options: object
    ) -> tuple[Tensor, ...]:
        """Quantize."""
        found = quantize_affine(x, fmt, **options)
        return found if scale is None else (found[0], scale, *((zero_point,) if zero_point is not None else ()))


class ThroughFloat64(Affine):
    """Divides in float64 and rounds that quotient to float32: one rounding, by the double width of float64."""

    is_right = True

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        """Divide."""
        if arithmetic is not ScaleArithmetic.DIVIDE or x.dtype is torch.float64:
            return super().divide(x, scale, arithmetic)
        return (x.to(torch.float64) / scale.to(torch.float64)).to(torch.float32)
