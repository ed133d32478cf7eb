"""`decode` in one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import ElementFormat, Format
from incref.numerics.codes import code_dtype
from incref.numerics.decode import require_exact
from incref.numerics.patterns import float_format_of
from incref.ops.encode import get_element_format
from incref_kernels.cpu.elementwise import run_elementwise
from incref_kernels.cpu.launch import why_not_format, why_not_tensors
from incref_kernels.cpu.tiles.decode import decode_patterns
from incref_kernels.cpu.tiles.store import round_to

__all__ = ["KERNEL", "decode"]


def decode(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Run `incref.ops.decode` in a kernel."""
    source = get_element_format(fmt)
    require_exact(source, dtype)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    values = torch.empty(codes.shape, dtype=dtype)
    run_elementwise(partial(_tile, fmt=source, dtype=dtype), (codes,), values)
    return values


def _tile(codes: Tensor, *, fmt: ElementFormat, dtype: torch.dtype) -> Tensor:
    compute, wide = (torch.float64, torch.int64) if dtype is torch.float64 else (torch.float32, torch.int32)
    # The value is one of `dtype`, so nothing is rounded.
    return round_to(decode_patterns(codes.to(wide), fmt, float_format_of(compute)).view(compute), dtype)


def why_not(codes: Tensor, fmt: str | Format, **_options: object) -> str | None:
    """Say which arguments the kernel can't take."""
    return why_not_tensors({"codes": codes}) or why_not_format(get_element_format(fmt))


KERNEL = Kernel(fn=decode, why_not=why_not)
