"""`decode` in one pass over memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref.numerics.codes import code_dtype
from incref.numerics.decode import require_exact
from incref.numerics.patterns import float_format_of
from incref.ops.encode import get_element_format
from incref_kernels.triton.device.decode import decode_patterns
from incref_kernels.triton.launch import launch, pattern_dtype, why_not_format, why_not_tensors
from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "TILE", "decode", "decode_kernel"]

TILE = Tile(elements=2048)


@triton.jit
def decode_kernel(
    codes_ptr: tl.tensor,
    patterns_ptr: tl.tensor,
    numel: tl.tensor,
    fmt: tl.constexpr,
    layout: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Decode BLOCK consecutive elements a program."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    mask = lanes < tl.minimum(numel - start, BLOCK).to(tl.int32)
    codes = tl.load(codes_ptr + start + lanes, mask=mask, other=0)
    if layout.bits == 64:
        patterns = decode_patterns(codes.to(tl.int64), fmt, layout)
    else:
        patterns = decode_patterns(codes.to(tl.int32), fmt, layout)
    tl.store(patterns_ptr + start + lanes, patterns.to(patterns_ptr.dtype.element_ty), mask=mask)


def decode(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32, tile: Tile | None = None) -> Tensor:
    """Run `incref.ops.decode` in a kernel; a tensor that is not contiguous is copied first."""
    source = get_element_format(fmt)
    require_exact(source, dtype)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    tile = tile or choose(TILE, codes)
    launch(
        decode_kernel,
        cdiv(codes.numel(), tile.elements),
        codes.contiguous(),
        values.view(pattern_dtype(dtype)),
        codes.numel(),
        device=codes.device,
        tile=tile,
        fmt=source,
        layout=float_format_of(dtype),
        BLOCK=tile.elements,
    )
    return values


def why_not(codes: Tensor, fmt: str | Format, **_options: object) -> str | None:
    """Say which arguments the kernel can't take."""
    return why_not_tensors({"codes": codes}) or why_not_format(get_element_format(fmt))


KERNEL = Kernel(fn=decode, why_not=why_not)
