"""`sum_fp8` and `softmax_fp8`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.numerics.scaled import round_to_half
from incref.ops.decode import decode
from incref_kernels.hpu.simulator.casts import FLOAT8, encode_result
from incref_kernels.hpu.simulator.options import Softmax, Sum
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
        """Add values exactly, and round to `out_dtype`, or to that of the values; `Sum` says how."""
        # Of 2**20 values, whose bits lie within 32 places of each other, float64 holds every sum.
        wide = self._decode(self_, torch.float64)
        total = wide.sum() if dim is None else wide.sum(list(dim), keepdim=keepdim)
        dtype = out_dtype or self_.dtype
        if dtype not in FLOAT8:
            return round_to_half(total, dtype).to(dtype)
        if self.profile.sum is Sum.BY_BFLOAT16:
            total = round_to_half(total, torch.bfloat16).to(torch.bfloat16)
        return self._round(total, dtype)

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
        """Compute `softmax(input * inv_attn_heads * input_scale + fused_add)`; `Softmax` says how it rounds.

        With both scales the result is multiplied with `output_scale` and rounded to E4M3; without, it is bfloat16.

        Raises:
            UnsupportedError: over another dimension; with one scale alone, or a sum without scales, which no test of
                the vendor has.
        """
        if dim not in (-1, input.ndim - 1):
            raise UnsupportedError(f"softmax_fp8 is over the last dimension, got dim={dim}")
        if (input_scale is None) != (output_scale is None):
            raise UnsupportedError("what softmax_fp8 makes of one scale is not known; give both, or none")
        if fused_add is not None and input_scale is None:
            raise UnsupportedError("softmax_fp8 adds to its input only where it has scales")
        work = torch.bfloat16 if self.profile.softmax is Softmax.BFLOAT16 else torch.float32
        x = self._decode(input, work) if input.dtype in FLOAT8 else input.to(work)
        for factor in (inv_attn_heads, input_scale):
            x = x if factor is None else _times(x, factor)
        x = x if fused_add is None else x + fused_add.to(work)
        y = torch.softmax(x.to(torch.float32), -1).to(torch.bfloat16 if output_scale is None else work)
        if output_scale is None:
            return y
        return self._round(_times(y, output_scale), torch.float8_e4m3fn)

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
        dtype = torch.bfloat16 if input_scale is None else torch.float8_e4m3fn
        return torch.empty_like(input, dtype=dtype)

    def _decode(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return decode(x.view(torch.uint8), self.profile.read_format(x.dtype), dtype=dtype)

    def _round(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return encode_result(x, self.profile.cast_format(dtype), self.profile).view(dtype)


def _times(x: Tensor, factor: Tensor | float) -> Tensor:
    """Multiply in float32, and round to the dtype of `x`."""
    return (x.to(torch.float32) * torch.as_tensor(factor, dtype=torch.float32)).to(x.dtype)
