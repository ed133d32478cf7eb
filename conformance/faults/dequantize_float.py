"""Faults of `dequantize_float`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import decode, dequantize_affine


class Dequantize(Kernel):
    """Decodes, spreads the scales, and multiplies."""

    op = "dequantize_float"
    is_right = True

    def __call__(
        self,
        codes: Tensor,
        scale: Tensor,
        fmt: str,
        *,
        granularity: Granularity = PER_TENSOR,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Dequantize."""
        compute = torch.float64 if torch.float64 in (scale.dtype, dtype) else torch.float32
        values = decode(scale, "float8_e8m0fnu", dtype=compute) if scale.dtype is torch.uint8 else scale.to(compute)
        factor = self.spread(values, codes.shape, granularity)
        return self.to_dtype(self.multiply(self.decode(codes, fmt, compute), factor), dtype)

    def decode(self, codes: Tensor, fmt: str, dtype: torch.dtype) -> Tensor:
        return decode(codes, fmt, dtype=dtype)

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale, shape, granularity)

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if x.dtype is torch.float64 and dtype.itemsize == 2:
            ones = torch.ones_like(x, dtype=torch.int8)
            return dequantize_affine(ones, x, granularity=Granularity((1,)), dtype=dtype)
        return x.to(dtype)


class DecodedInBfloat16(Dequantize):
    """Product and value are bfloat16, which is rounded once more."""

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return (x * factor).to(torch.bfloat16).to(x.dtype)


class Divided(Dequantize):
    """The scale is taken for its inverse."""

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return x / factor


class SubnormalCodesFlushed(Dequantize):
    """Subnormal codes count as zero."""

    def decode(self, codes: Tensor, fmt: str, dtype: torch.dtype) -> Tensor:
        found = super().decode(codes, fmt, dtype)
        return torch.where((codes & 0x7F) < 4, 0 * found, found)


class NanCodeScaled(Dequantize):
    """The code of NaN is read as the number that would follow the largest value."""

    def decode(self, codes: Tensor, fmt: str, dtype: torch.dtype) -> Tensor:
        found = super().decode(codes, fmt, dtype)
        return torch.where(found.isnan(), 480.0, found)


class ScalesInOrderOfColumns(Dequantize):
    """Scales are read with the strides of their transpose."""

    def spread(self, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
        return spread(scale.reshape(scale.shape[::-1]).T if scale.ndim == 2 else scale, shape, granularity)


class FmaOfZero(Dequantize):
    """Multiplies with a fused addition of zero, which changes the sign of -0."""

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor + 0.0
