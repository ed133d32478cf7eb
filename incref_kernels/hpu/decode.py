"""`decode`: one cast."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format
from incref_kernels.hpu.available import why_not_device
from incref_kernels.hpu.casts import WIDE, from_float8, why_not_format

__all__ = ["KERNEL", "decode"]


def decode(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Run `incref.ops.decode` by `cast_from_fp8`."""
    return from_float8(codes, None, fmt, dtype)


def why_not(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32) -> str | None:
    """Say which arguments the cast can't take."""
    if codes.dtype is not torch.uint8:
        return f"codes must be torch.uint8, got {codes.dtype}"
    if dtype not in WIDE:
        return f"casts give torch.float32 or torch.bfloat16, got {dtype}"
    return why_not_format(fmt) or why_not_device(codes=codes)


KERNEL = Kernel(fn=decode, why_not=why_not)
