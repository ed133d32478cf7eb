"""`sum_fp8` and `softmax_fp8`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.ops.decode import decode
from incref_kernels.hpu.simulator.casts import FLOAT8, encode_result
from incref_kernels.hpu.simulator.profile import HpuProfile

__all__ = ["Reductions"]


class Reductions:
    """The operators on one chip."""

    def __init__(self, profile: HpuProfile) -> None:
        """Take the chip."""
        self.profile = profile

    def sum_fp8(
        self,
        self_: Tensor,
        dim: Sequence[int] | None = None,
        keepdim: bool = False,  # the operator's arguments
        out_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Add values in float64, and round once to `out_dtype`, or to that of the values."""
        wide = self._decode(self_, torch.float64)
        total = wide.sum() if dim is None else wide.sum(list(dim), keepdim=keepdim)
        return self._round(total, out_dtype or self_.dtype)

    def sum_fp8_meta(
        self,
        self_: Tensor,
        dim: Sequence[int] | None = None,
        keepdim: bool = False,
        out_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Shape and dtype of `sum_fp8`."""
        wide = self_.new_empty(self_.shape, dtype=torch.float64)
        total = wide.sum() if dim is None else wide.sum(list(dim), keepdim=keepdim)
        return total.to(out_dtype or self_.dtype)

    def softmax_fp8(
        self,
        input: Tensor,
        dim: int,
        input_scale: Tensor | float | None = None,
        output_scale: Tensor | float | None = None,
        inv_attn_heads: Tensor | float | None = None,
        fused_add: Tensor | None = None,
    ) -> Tensor:
        """Compute `softmax(input * inv_attn_heads * input_scale + fused_add)` in float32, rounded to bfloat16.

        With an `output_scale` that is multiplied with it and rounded to E4M3.
        """
        if dim not in (-1, input.ndim - 1):
            raise UnsupportedError(f"softmax_fp8 is over the last dimension, got dim={dim}")
        x = self._decode(input, torch.float32) if input.dtype in FLOAT8 else input.to(torch.float32)
        for factor in (inv_attn_heads, input_scale):
            x = x if factor is None else x * factor
        x = x if fused_add is None else x + fused_add.to(torch.float32)
        y = torch.softmax(x, -1).to(torch.bfloat16)
        if output_scale is None:
            return y
        factor = output_scale.to(y.dtype) if isinstance(output_scale, Tensor) else output_scale
        return self._round(y * factor, torch.float8_e4m3fn)

    def softmax_fp8_meta(
        self,
        input: Tensor,
        dim: int,
        input_scale: Tensor | float | None = None,
        output_scale: Tensor | float | None = None,
        inv_attn_heads: Tensor | float | None = None,
        fused_add: Tensor | None = None,
    ) -> Tensor:
        """Shape and dtype of `softmax_fp8`."""
        dtype = torch.bfloat16 if output_scale is None else torch.float8_e4m3fn
        return torch.empty_like(input, dtype=dtype)

    def _decode(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return decode(x.view(torch.uint8), self.profile.cast_format(x.dtype), dtype=dtype)

    def _round(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if dtype not in FLOAT8:
            return x.to(dtype)
        return encode_result(x, self.profile.cast_format(dtype), self.profile).view(dtype)
