"""Faults of `dequantize_mx`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import (
    FORMATS,
    BlockFormat,
)
from incref.ops import decode, dequantize_mx

_NAN = 255


class Values(Kernel):
    """Multiplies decoded elements by decoded scales in float64."""

    op = "dequantize_mx"
    is_right = True

    def __call__(
        self,
        codes: Tensor,
        scale: Tensor,
        fmt: str,
        *,
        axis: int = -1,
        tensor_scale: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Dequantize."""
        source = FORMATS[fmt]
        assert isinstance(source, BlockFormat)
        moved = codes.movedim(axis, -1)
        factors = self.factors(scale.movedim(axis, -1), source)
        spread = self.spread(factors, source, moved.shape[-1])
        exact = self.elements(moved, source) * spread
        value = exact.to(torch.float64 if dtype is torch.float64 else torch.float32)
        if tensor_scale is not None:
            value = self.with_tensor(value, tensor_scale)
        return self.to_dtype(value, dtype).movedim(-1, axis).contiguous()

    def elements(self, codes: Tensor, source: BlockFormat) -> Tensor:
        return decode(codes, source.element, dtype=torch.float64)

    def factors(self, scale: Tensor, source: BlockFormat) -> Tensor:
        return decode(scale, source.scale, dtype=torch.float64)

    def spread(self, factors: Tensor, source: BlockFormat, length: int) -> Tensor:
        return factors.repeat_interleave(source.block_size, -1)[..., :length]

    def with_tensor(self, value: Tensor, tensor_scale: Tensor) -> Tensor:
        return value * tensor_scale.to(value.dtype)

    def to_dtype(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype)


class LeastScaleIsZero(Values):
    """The scale code 0x00 is shifted into an exponent field and gives 0."""

    def factors(self, scale: Tensor, source: BlockFormat) -> Tensor:
        found = super().factors(scale, source)
        return torch.where((scale == 0) & (not source.has_tensor_scale), 0.0, found)


class NanScaleIsInf(Values):
    """The scale code 0xFF is shifted into an exponent field and gives Inf."""

    def factors(self, scale: Tensor, source: BlockFormat) -> Tensor:
        found = super().factors(scale, source)
        return torch.where((scale == _NAN) & (not source.has_tensor_scale), torch.inf, found)


class ScaleBiasWrong(Values):
    """The bias of scales is taken for 128."""

    def factors(self, scale: Tensor, source: BlockFormat) -> Tensor:
        return super().factors(scale, source) / 2


class BlocksShifted(Values):
    """Scales are applied to the blocks after theirs."""

    def spread(self, factors: Tensor, source: BlockFormat, length: int) -> Tensor:
        return super().spread(factors.roll(1, -1), source, length)


class FactorsInBfloat16(Values):
    """Elements and scales are multiplied in bfloat16, in which 2**-127 is subnormal and flushed."""

    def factors(self, scale: Tensor, source: BlockFormat) -> Tensor:
        found = super().factors(scale, source)
        return torch.where(found < torch.finfo(torch.bfloat16).tiny, 0.0, found)


class ProductInFloat16(Values):
    """The product is held in float16."""

    def to_dtype(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(torch.float16).to(dtype)


class TensorScaleForgotten(Values):
    """The scale of the tensor is not applied."""

    def with_tensor(self, value: Tensor, tensor_scale: Tensor) -> Tensor:
        return value


class TensorScaleFirst(Values):
    """The scales of block and tensor are multiplied first, with a rounding of their own."""

    def with_tensor(self, value: Tensor, tensor_scale: Tensor) -> Tensor:
        return (value.to(torch.bfloat16) * tensor_scale.to(torch.bfloat16)).to(value.dtype)


class SignOfElementLost(Values):
    """The sign bit of four-bit elements is taken for part of the exponent."""

    def elements(self, codes: Tensor, source: BlockFormat) -> Tensor:
        found = super().elements(codes, source)
        return found.abs() if source.element.bits == 4 else found


class ZeroSignLost(Values):
    """-0 becomes +0."""

    def to_dtype(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return super().to_dtype(value, dtype) + 0.0


class Whole(Kernel):
    """Works on one line of blocks after the other."""

    op = "dequantize_mx"
    is_right = True

    def __call__(self, codes: Tensor, scale: Tensor, fmt: str, *, axis: int = -1, **options: object) -> Tensor:
        """Dequantize."""
        if codes.ndim != 2 or not codes.numel():
            return dequantize_mx(codes, scale, fmt, axis=axis, **options)
        pairs = zip(codes.movedim(axis, -1), scale.movedim(axis, -1), strict=True)
        rows = [dequantize_mx(one, factor, fmt, **options) for one, factor in pairs]
        return torch.stack(rows).movedim(-1, axis).contiguous()
