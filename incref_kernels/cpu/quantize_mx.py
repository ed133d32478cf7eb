"""`quantize_mx` in one pass over memory; NVFP4 without a given tensor scale takes one more to find it."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import (
    BlockFormat,
    BlockRule,
    Format,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_mx import get_block_format, require_axis
from incref_kernels.block_options import require_tensor_scale, scale_rule
from incref_kernels.cpu.blocks import run_blocks
from incref_kernels.cpu.compute_scale import tensor_scale as find_tensor_scale
from incref_kernels.cpu.jit.ports import Kind
from incref_kernels.cpu.launch import raise_if_lost, why_not_tensors
from incref_kernels.cpu.tiles.blocks import quantize_mx_tile, quantize_nvfp4_tile

__all__ = ["KERNEL", "block_tile", "quantize_mx"]

T = TypeVar("T", Tensor, tuple[Tensor, Tensor])


def quantize_mx(
    x: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    rule: ScaleRule | None = None,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.RESTRICTED,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tensor_scale: Tensor | None = None,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.quantize_mx` in a kernel; a tensor that is not contiguous is copied piece by piece."""
    target = get_block_format(fmt)
    require_axis(x, axis)
    float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    axis = axis % x.ndim
    rule = scale_rule(target, rule)
    whole = require_tensor_scale(x, target, tensor_scale, find_tensor_scale)
    to = Encoding(fmt=target.element, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    specials = BlockSpecials(nan=nan_block, inf=inf_block)
    blocks = -(-x.shape[axis] // target.block_size)
    codes = torch.empty(x.shape, dtype=code_dtype(target.element))
    scale = torch.empty((*x.shape[:axis], blocks, *x.shape[axis + 1 :]), dtype=torch.uint8)
    body = block_tile(
        quantize_mx_tile, quantize_nvfp4_tile, target, to, rule=rule, arithmetic=arithmetic, specials=specials
    )
    inputs = [(Kind.ELEMENT, x)]
    if whole is not None:
        inputs.append((Kind.WHOLE, whole))
    if random_bits is not None:
        inputs.append((Kind.ELEMENT, random_bits))
    lost = run_blocks(body, target.block_size, axis, inputs, [(Kind.ELEMENT, codes), (Kind.TILE, scale)])
    raise_if_lost(lost, target.element)
    return (codes, scale) if whole is None else (codes, scale, whole)


def block_tile(
    mx: Callable[..., T],
    nvfp4: Callable[..., T],
    fmt: BlockFormat,
    to: Encoding,
    *,
    rule: ScaleRule,
    arithmetic: ScaleArithmetic,
    specials: BlockSpecials,
) -> "partial[T]":
    """Choose the function of a tile that the scales of `fmt` need, with its options."""
    if fmt.has_tensor_scale:
        return partial(nvfp4, fmt=fmt, to=to, arithmetic=arithmetic, specials=specials)
    return partial(mx, fmt=fmt, to=to, rule=rule, specials=specials)


def why_not(
    x: Tensor,
    fmt: str | Format,
    *,
    random_bits: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernels can't take."""
    del fmt
    return why_not_tensors({"x": x, "random_bits": random_bits, "tensor_scale": tensor_scale})


KERNEL = Kernel(fn=quantize_mx, why_not=why_not)
