"""`encode` in one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Overflow, Rounding
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.patterns import float_format_of, patterns_of
from incref.numerics.rounding import require_random_bits
from incref.ops.encode import get_element_format
from incref_kernels.cpu.elementwise import run_elementwise
from incref_kernels.cpu.launch import raise_if_lost, why_not_format, why_not_tensors
from incref_kernels.cpu.tiles.nearest import encode_tile

__all__ = ["KERNEL", "encode"]


def encode(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.encode` in a kernel."""
    target = get_element_format(fmt)
    float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    to = Encoding(fmt=target, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    codes = torch.empty(x.shape, dtype=code_dtype(target))
    lost = run_elementwise(partial(_tile, to=to), (x, random_bits), codes)
    raise_if_lost(lost, target)
    return codes


def _tile(x: Tensor, random_bits: Tensor | None = None, *, to: Encoding) -> Tensor:
    return encode_tile(patterns_of(x), to, random_bits=random_bits)


def why_not(x: Tensor, fmt: str | Format, *, random_bits: Tensor | None = None, **_options: object) -> str | None:
    """Say which arguments the kernel can't take."""
    return why_not_tensors({"x": x, "random_bits": random_bits}) or why_not_format(get_element_format(fmt))


KERNEL = Kernel(fn=encode, why_not=why_not)
