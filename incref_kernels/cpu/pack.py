"""`pack` and `unpack` in one pass over memory, for codes that fill words."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import ElementFormat, Format
from incref.formats.layouts import LAYOUTS, PackLayout, WordLayout
from incref.numerics.codes import code_dtype
from incref.numerics.packing import word_dtype
from incref.ops.pack import get_packed_format, require_dimension, require_in_range, require_words
from incref_kernels.cpu.elementwise import run_elementwise
from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape
from incref_kernels.cpu.launch import element, why_not_tensors
from incref_kernels.cpu.tiles.packing import pack_across_tile, pack_along_tile, unpack_along_tile

__all__ = ["PACK", "UNPACK", "pack", "unpack"]

# The integers whose bytes are the codes of a word, by how many there are.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_LANES = 32


def pack(codes: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1) -> Tensor:
    """Run `incref.ops.pack` in a kernel; codes that do not lie side by side are copied first."""
    target = get_packed_format(fmt, layout)
    if codes.dtype is not code_dtype(target):
        raise TypeError(f"codes of {target.name} must be {code_dtype(target)}, got {codes.dtype}")
    axis = require_dimension(codes, axis)
    facts = LAYOUTS[layout]
    count, _ = facts.unit(target.bits)
    words = word_dtype(facts)
    shape = (*codes.shape[:axis], facts.num_words(target.bits, codes.shape[axis]), *codes.shape[axis + 1 :])
    packed = torch.empty(shape, dtype=words)
    codes = codes.contiguous()
    if codes.storage_offset() % count:
        codes = codes.clone()
    inner = codes.shape[axis + 1 :].numel()
    if inner == 1:
        body = partial(pack_along_tile, fmt=target, layout=facts, words=words)
        is_outside = run_elementwise(body, (codes.view(-1).view(_INTEGERS[count]),), packed.view(-1))
    else:
        kernel = TileKernel(
            body=partial(pack_across_tile, fmt=target, layout=facts, words=words, dim=0),
            inputs=(element(codes.dtype),),
            outputs=(Port(kind=Kind.TILE, dtype=words),),
            shape=TileShape(rows=count, lanes=_LANES),
        )
        over = Matrices(matrices=codes.shape[:axis].numel(), length=codes.shape[axis], inner=inner)
        is_outside = kernel.launch([codes, packed], over)
    if is_outside:
        require_in_range(codes, target)
    return packed


def unpack(packed: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1, length: int) -> Tensor:
    """Run `incref.ops.unpack` in a kernel."""
    target = get_packed_format(fmt, layout)
    axis = require_dimension(packed, axis)
    require_words(packed, target, layout, axis, length)
    facts = LAYOUTS[layout]
    count, _ = facts.unit(target.bits)
    codes = torch.empty((*packed.shape[:axis], length, *packed.shape[axis + 1 :]), dtype=code_dtype(target))
    body = partial(unpack_along_tile, fmt=target, layout=facts, codes=_INTEGERS[count])
    run_elementwise(body, (packed.contiguous().view(-1),), codes.view(-1).view(_INTEGERS[count]))
    return codes


def why_not_pack(codes: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1) -> str | None:
    """Say which arguments the kernel can't take."""
    target, facts = get_packed_format(fmt, layout), LAYOUTS[layout]
    reason = why_not_tensors({"codes": codes}) or _why_not_words(target, facts)
    if reason or codes.ndim == 0 or codes.numel() == 0:
        return reason or "it takes tensors with elements and dimensions"
    axis = require_dimension(codes, axis)
    count, _ = facts.unit(target.bits)
    # Rows of zeros that are missing are codes where nothing is added to them.
    is_across = codes.shape[axis + 1 :].numel() > 1 and not facts.offset
    return None if is_across else _why_not_length(codes.shape[axis], count)


def why_not_unpack(packed: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1, length: int) -> str | None:
    """Say which arguments the kernel can't take."""
    target, facts = get_packed_format(fmt, layout), LAYOUTS[layout]
    reason = why_not_tensors({"packed": packed}) or _why_not_words(target, facts)
    if reason or packed.ndim == 0 or packed.numel() == 0:
        return reason or "it takes tensors with elements and dimensions"
    axis = require_dimension(packed, axis)
    if packed.shape[axis + 1 :].numel() > 1:
        return "it takes words along the last dimension"
    return _why_not_length(length, facts.unit(target.bits)[0])


def _why_not_words(fmt: ElementFormat, layout: WordLayout) -> str | None:
    count, words = layout.unit(fmt.bits)
    if words == 1 and count * fmt.bits == layout.word_bits and count in _INTEGERS:
        return None
    return (
        f"it takes 1, 2, 4 or 8 codes that fill a word, got {count} of {fmt.name} in {words} of {layout.word_bits} bits"
    )


def _why_not_length(length: int, count: int) -> str | None:
    return f"it takes whole words of {count} codes, got {length} codes" if length % count else None


PACK = Kernel(fn=pack, why_not=why_not_pack)
UNPACK = Kernel(fn=unpack, why_not=why_not_unpack)
