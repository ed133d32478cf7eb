"""`gptq_update`: rows are independent; a thread takes some, side by side, through all columns of the block."""

import ctypes
from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Rounding, ScaleArithmetic
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TOKEN, Granularity
from incref.numerics.patterns import widen
from incref.numerics.scaled import require_scale
from incref.ops.gptq_update import require_block
from incref.ops.quantize_affine import get_int_format
from incref_kernels.cpu.jit.code import body_key, compiled
from incref_kernels.cpu.jit.column_loops import LANES, SIZES, module_text
from incref_kernels.cpu.jit.threads import Work, run_in_parts
from incref_kernels.cpu.launch import raise_if_lost, why_not_tensors
from incref_kernels.cpu.quantize_affine import affine_encoding
from incref_kernels.cpu.tiles.gptq import gptq_column_tile
from incref_kernels.scales import require_zero_point

__all__ = ["KERNEL", "gptq_update"]


def gptq_update(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TOKEN,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.gptq_update` in a kernel, on a copy that has rows of the weight side by side."""
    target = get_int_format(fmt)
    require_block(w, upper, scale, granularity)
    require_scale("scale", scale, w.shape, granularity)
    require_zero_point(zero_point, w, granularity)
    how = affine_encoding(
        target,
        has_zero_point=zero_point is not None,
        int_range=int_range,
        arithmetic=arithmetic,
        rounding=Rounding.NEAREST_EVEN,
        nan=NanRule.ERROR,
    )
    updated = _in_tiles(w, 0.0)
    tensors = [updated, upper.contiguous(), _in_tiles(widen(scale), 1.0)]
    if zero_point is not None:
        tensors.append(_in_tiles(zero_point, 0))
    codes = torch.empty(updated.shape, dtype=code_dtype(target))
    error = torch.empty_like(updated)
    tensors += [codes, error]
    if w.numel():
        body = partial(gptq_column_tile, how=how)
        has_zero_point = zero_point is not None
        key = ("gptq_update", body_key(body), codes.dtype, has_zero_point)
        code = compiled(key, lambda: module_text(body, codes.dtype, has_zero_point=has_zero_point))
        addresses = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        values = {"columns": w.shape[1], "groups": scale.shape[1], "group": granularity.block_shape(w.shape)[1]}
        sizes = (ctypes.c_int64 * len(SIZES))(*(values[name] for name in SIZES))
        work = Work(arguments=ctypes.addressof(addresses), sizes=ctypes.addressof(sizes), units=len(updated))
        raise_if_lost(run_in_parts(code, work, updated.numel()), target)
    return tuple(_out_of_tiles(one, w) for one in (codes, error, updated))  # type: ignore[return-value]


def _in_tiles(x: Tensor, fill: float) -> Tensor:
    """Put rows of x [N, B] side by side: [tiles, B, rows of a tile], filled up where rows are missing."""
    rows, columns = x.shape
    if missing := -rows % LANES:
        x = torch.cat([x, x.new_full((missing, columns), fill)])
    return x.reshape(x.shape[0] // LANES, LANES, columns).transpose(1, 2).contiguous()


def _out_of_tiles(tiles: Tensor, like: Tensor) -> Tensor:
    """Undo `_in_tiles`. Columns are contiguous where those of `like` are, which is faster."""
    rows = like.shape[0]
    if like.T.is_contiguous():
        return tiles.transpose(0, 1).flatten(1)[:, :rows].contiguous().T
    return tiles.transpose(1, 2).flatten(0, 1)[:rows].contiguous()


def why_not(
    w: Tensor,
    upper: Tensor,
    scale: Tensor,
    _fmt: str | Format,
    zero_point: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    return why_not_tensors({"w": w, "upper": upper, "scale": scale, "zero_point": zero_point})


KERNEL = Kernel(fn=gptq_update, why_not=why_not)
