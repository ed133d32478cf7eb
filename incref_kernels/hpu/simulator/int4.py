"""`convert_from_uint4` and `convert_from_int4`: packed 4-bit weights to floats."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.packing import unpack_words
from incref_kernels.hpu.simulator.casts import FLOAT8, encode_result
from incref_kernels.hpu.simulator.options import Int4ToFloat8
from incref_kernels.hpu.simulator.profile import HpuProfile

__all__ = ["Int4"]

_LAYOUT = LAYOUTS[PackLayout.HPU]
_BITS = _LAYOUT.code_bits[0]


class Int4:
    """The operators on one chip."""

    def __init__(self, profile: HpuProfile) -> None:
        """Take the chip."""
        self.profile = profile

    def convert_from_uint4(
        self,
        input: Tensor,  # the operator's name for it
        scale: Tensor,
        zero_point: Tensor | None,
        out_dtype: torch.dtype,
        group_index: Tensor | None = None,
    ) -> Tensor:
        """Compute `(code - zero_point) * scale`; codes are 0 to 15.

        Args:
            input: words of 8 codes along the last dimension, the first one lowest.
            scale: for each group of rows, or for every element.
            zero_point: packed likewise, or not packed: floats in the shape of `scale`.
            out_dtype: of the result, in which it is computed; 8-bit floats too.
            group_index: of every row, if the software has that.
        """
        return self._convert(input, scale, zero_point, out_dtype, group_index, _unsigned)

    def convert_from_int4(
        self,
        input: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        out_dtype: torch.dtype,
        group_index: Tensor | None = None,
    ) -> Tensor:
        """Compute `(code - zero_point) * scale`; codes are -8 to 7, in two's complement."""
        return self._convert(input, scale, zero_point, out_dtype, group_index, _signed)

    def convert_meta(
        self,
        input: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        out_dtype: torch.dtype,
        group_index: Tensor | None = None,
    ) -> Tensor:
        """Shape and dtype of both."""
        per_word = _LAYOUT.word_bits // _BITS
        return input.new_empty((*input.shape[:-1], input.shape[-1] * per_word), dtype=out_dtype)

    def _convert(
        self,
        words: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        out_dtype: torch.dtype,
        group_index: Tensor | None,
        read: Callable[[Tensor], Tensor],
    ) -> Tensor:
        if words.dtype is not torch.int32:
            raise TypeError(f"input must be torch.int32 words, got {words.dtype}")
        codes = read(words)
        work = self._work_dtype(scale.dtype, out_dtype)
        if zero_point is None:
            difference = codes.to(work)
        elif zero_point.dtype is torch.int32:
            zeros = _spread(read(zero_point), codes.shape, group_index)
            difference = (codes - zeros).to(work)
        else:
            difference = codes.to(work) - _spread(zero_point, codes.shape, group_index).to(work)
        values = difference * _spread(scale, codes.shape, group_index).to(work)
        if out_dtype not in FLOAT8:
            return values
        return encode_result(values, self.profile.cast_format(out_dtype), self.profile).view(out_dtype)

    def _work_dtype(self, scale: torch.dtype, out_dtype: torch.dtype) -> torch.dtype:
        if out_dtype not in FLOAT8:
            return out_dtype
        return torch.float32 if self.profile.int4_to_float8 is Int4ToFloat8.ONCE else scale


def _unsigned(words: Tensor) -> Tensor:
    length = words.shape[-1] * (_LAYOUT.word_bits // _BITS)
    return unpack_words(words, _BITS, layout=_LAYOUT, axis=words.ndim - 1, length=length).to(torch.int8)


def _signed(words: Tensor) -> Tensor:
    unused = 8 - _BITS
    return (_unsigned(words) << unused) >> unused


def _spread(x: Tensor, shape: torch.Size, group_index: Tensor | None) -> Tensor:
    """Give every row what its group has."""
    if x.shape == shape:
        return x
    rows, groups = shape[-2] if len(shape) > 1 else 1, x.shape[-2] if x.ndim > 1 else 1
    if group_index is not None:
        return x.index_select(-2, group_index)
    if not groups or rows % groups:
        raise ValueError(f"{groups} groups don't divide the {rows} rows of the weight")
    return x.repeat_interleave(rows // groups, -2)
