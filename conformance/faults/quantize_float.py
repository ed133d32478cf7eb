"""Faults of `quantize_float`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.formats import NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import widen
from incref.ops import compute_scale, decode, encode, quantize_float


class Scaled(Kernel):
    """Spreads scales over the elements, divides whole tensors, and encodes."""

    op = "quantize_float"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        fmt: str,
        scale: Tensor | None = None,
        *,
        granularity: Granularity = PER_TENSOR,
        rule: ScaleRule = ScaleRule.DIVIDE,
        arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
        quotient: QuotientDtype = QuotientDtype.COMPUTE,
        rounding: Rounding = Rounding.NEAREST_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        nan: NanRule = NanRule.ERROR,
        random_bits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Quantize."""
        if scale is None:
            scale = compute_scale(x, fmt, granularity, rule=rule)
        compute = torch.float64 if x.dtype is torch.float64 else torch.float32
        values = decode(scale, "float8_e8m0fnu", dtype=compute) if scale.dtype is torch.uint8 else scale
        factor = self.spread(values, x.shape, granularity)
        # A conversion from float16 by PyTorch may drop the sign of a NaN.
        wide = widen(x).to(compute)
        if quotient is QuotientDtype.INPUT:
            values = self.divide_narrow(wide, factor, arithmetic, x.dtype)
        else:
            values = self.divide(wide, factor, arithmetic)
        if overflow is Overflow.SATURATE_FINITE:
            most = torch.finfo(compute).max
            values = torch.where(wide.isfinite() & values.isinf(), values.clamp(-most, most), values)
        # NaNs that are made have sign bit 0; one in x stays as it is, one in a scale too.
        new = torch.where(factor.isnan(), factor, torch.nan)
        values = torch.where(wide.isnan(), wide, torch.where(values.isnan(), new, values))
        codes = self.encode(values, fmt, rounding, overflow, nan, random_bits)
        return codes, scale

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale, shape, granularity)

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x / scale if arithmetic is ScaleArithmetic.DIVIDE else x * (1 / scale)

    def divide_narrow(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic, dtype: torch.dtype) -> Tensor:
        if arithmetic is ScaleArithmetic.DIVIDE:
            return (x.to(dtype) / scale.to(dtype)).to(x.dtype)
        return (x.to(dtype) * (1 / scale).to(dtype)).to(x.dtype)

    def encode(
        self,
        x: Tensor,
        fmt: str,
        rounding: Rounding,
        overflow: Overflow,
        nan: NanRule,
        random_bits: Tensor | None,
    ) -> Tensor:
        return encode(x, fmt, rounding=rounding, overflow=overflow, nan=nan, random_bits=random_bits)


class ReciprocalForDivision(Scaled):
    """The product with the reciprocal of the scale stands for the division."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x * (1 / scale)


class MultipliedByScale(Scaled):
    """The scale is taken for its inverse."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return x * scale


class NarrowQuotientRoundedOnce(Scaled):
    """The product with the reciprocal is not rounded to the dtype of its input before it is encoded."""

    def divide_narrow(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic, dtype: torch.dtype) -> Tensor:
        if arithmetic is ScaleArithmetic.DIVIDE:
            return x / scale.to(dtype).to(x.dtype)
        return x * (1 / scale).to(dtype).to(x.dtype)


class NarrowQuotientByWideScale(Scaled):
    """The reciprocal of the scale is not rounded to the dtype of the input, only the product with it is."""

    def divide_narrow(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic, dtype: torch.dtype) -> Tensor:
        return self.divide(x, scale, arithmetic).to(dtype).to(x.dtype)


class QuotientInHalf(Scaled):
    """The quotient is rounded to bfloat16 before it is encoded."""

    def divide(self, x: Tensor, scale: Tensor, arithmetic: ScaleArithmetic) -> Tensor:
        return super().divide(x, scale, arithmetic).to(torch.bfloat16).to(x.dtype)


class QuotientBeyondFloatIsInf(Scaled):
    """A finite value whose quotient is beyond float32 counts as Inf, which does not saturate."""

    def encode(
        self,
        x: Tensor,
        fmt: str,
        rounding: Rounding,
        overflow: Overflow,
        nan: NanRule,
        random_bits: Tensor | None,
    ) -> Tensor:
        most = torch.finfo(x.dtype).max
        lost = torch.where(x.abs() == most, x * 2, x) if overflow is Overflow.SATURATE_FINITE else x
        return super().encode(lost, fmt, rounding, overflow, nan, random_bits)


class ClampLosesNan(Scaled):
    """The quotient is clamped by functions that give the limit for a NaN."""

    def encode(
        self,
        x: Tensor,
        fmt: str,
        rounding: Rounding,
        overflow: Overflow,
        nan: NanRule,
        random_bits: Tensor | None,
    ) -> Tensor:
        return super().encode(x.nan_to_num(torch.finfo(x.dtype).max), fmt, rounding, overflow, nan, random_bits)


class ScaleOfGroupBefore(Scaled):
    """The first element of a group still gets the scale of the group before."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        found = spread(scale, shape, granularity)
        return torch.cat([found[..., :1], found[..., :-1]], -1) if shape and found.numel() else found


class RoundingIgnored(Scaled):
    """Elements are rounded to nearest, whichever rounding was asked for."""

    def encode(
        self,
        x: Tensor,
        fmt: str,
        rounding: Rounding,
        overflow: Overflow,
        nan: NanRule,
        random_bits: Tensor | None,
    ) -> Tensor:
        return super().encode(x, fmt, Rounding.NEAREST_EVEN, overflow, nan, None)


class ScaleIsAmax(Kernel):
    """The scale is taken of the first block for all."""

    op = "quantize_float"

    def __call__(self, x: Tensor, fmt: str, scale: Tensor | None = None, **options: object) -> tuple[Tensor, Tensor]:
        """Quantize."""
        codes, found = quantize_float(x, fmt, scale, **options)
        if scale is not None or found.numel() < 2 or found.dtype is torch.uint8:
            return codes, found
        first = found.flatten()[:1].expand(found.numel()).view(found.shape).clone()
        return quantize_float(x, fmt, first, **options)
