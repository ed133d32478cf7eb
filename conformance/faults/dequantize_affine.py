"""Faults of `dequantize_affine`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import decode, dequantize_affine


class Dequantize(Kernel):
    """Spreads scales over the elements and works on whole tensors."""

    op = "dequantize_affine"
    is_right = True

    def __call__(
        self,
        codes: Tensor,
        scale: Tensor,
        zero_point: Tensor | None = None,
        *,
        granularity: Granularity = PER_TENSOR,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Dequantize."""
        compute = torch.float64 if torch.float64 in (scale.dtype, dtype) else torch.float32
        values = decode(scale, "float8_e8m0fnu", dtype=compute) if scale.dtype is torch.uint8 else scale.to(compute)
        factor = self.spread(values, codes.shape, granularity)
        zero = None if zero_point is None else self.spread(zero_point, codes.shape, granularity)
        return self.to_dtype(self.multiply(codes, zero, factor), dtype)

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale, shape, granularity)

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        whole = codes.to(factor.dtype)
        return (whole if zero is None else whole - zero.to(factor.dtype)) * factor

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if x.dtype is torch.float64 and dtype.itemsize == 2:
            # PyTorch converts through float32, which rounds twice.
            return dequantize_affine(
                torch.ones_like(x, dtype=torch.int8), x, granularity=Granularity((1,)), dtype=dtype
            )
        return x.to(dtype)


class ZeroPointAfterScale(Dequantize):
    """`code * scale - zero * scale` has two roundings more than `(code - zero) * scale`."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        whole = codes.to(factor.dtype) * factor
        return whole if zero is None else whole - zero.to(factor.dtype) * factor


class DifferenceWraps(Dequantize):
    """Code and zero point are subtracted in eight bits."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        if zero is None:
            return super().multiply(codes, zero, factor)
        return (codes - zero.to(codes.dtype)).to(factor.dtype) * factor


class ZeroPointAdded(Dequantize):
    """The zero point is added, not subtracted."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().multiply(codes, None if zero is None else -zero, factor)


class ZeroPointPlusOne(Dequantize):
    """The zero point is taken for one more than it is, as the first GPTQ format needs it."""

    source = "https://github.com/AutoGPTQ/AutoGPTQ: v1 zero points read as v2"

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().multiply(codes, None if zero is None else zero + 1, factor)


class ZeroPointOfWrongGroup(Dequantize):
    """Zero points are read in the order of columns, as if packed along the other axis."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        turned = None if zero is None else zero.reshape(zero.shape[::-1]).T if zero.ndim == 2 else zero
        return super().multiply(codes, turned, factor)


class ScaleInBfloat16(Dequantize):
    """The scale is rounded to bfloat16."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().multiply(codes, zero, factor.to(torch.bfloat16).to(factor.dtype))


class ScaleOfGroupBefore(Dequantize):
    """The first element of a group still gets the scale of the group before."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        found = spread(scale, shape, granularity)
        return torch.cat([found[..., :1], found[..., :-1]], -1) if shape and found.numel() else found


class DoubleRounding(Dequantize):
    """The product is rounded to bfloat16 on its way to the dtype of the result."""

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return super().to_dtype(x.to(torch.bfloat16) if dtype is torch.float16 else x, dtype)


class OnceRoundedHalf(Dequantize):
    """A bfloat16 or float16 result is rounded once, from the exact product, and not through float32."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().multiply(codes, zero, factor.to(torch.float64))

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return super().to_dtype(x, dtype)


class SubnormalProductsFlushed(Dequantize):
    """Products below the normal numbers become zero."""

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        small = x.abs() < torch.finfo(x.dtype).tiny
        return super().to_dtype(torch.where(small, torch.zeros_like(x).copysign(x), x), dtype)


class SignedCodesReadUnsigned(Dequantize):
    """int8 codes are read as uint8."""

    def multiply(self, codes: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().multiply(codes.view(torch.uint8), zero, factor)
