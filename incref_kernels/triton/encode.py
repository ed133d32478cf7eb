"""`encode` in one pass over memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Overflow, Rounding
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.ops.encode import get_element_format
from incref_kernels.triton.device.encode import encode_patterns
from incref_kernels.triton.device.facts import may_refuse, working_layout
from incref_kernels.triton.device.patterns import load_patterns
from incref_kernels.triton.hardware import converted
from incref_kernels.triton.launch import launch, lost_flag, raise_if_lost, why_not_format, why_not_tensors
from incref_kernels.triton.sizes import cdiv
from incref_kernels.triton.tiles import Tile, choose

__all__ = ["KERNEL", "TILE", "encode", "encode_kernel"]

TILE = Tile(elements=2048)


@triton.jit
def encode_kernel(
    x_ptr: tl.tensor,
    random_ptr: tl.tensor,
    codes_ptr: tl.tensor,
    lost_ptr: tl.tensor,
    numel: tl.tensor,
    layout: tl.constexpr,
    to: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Encode BLOCK consecutive elements a program."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    mask = lanes < tl.minimum(numel - start, BLOCK).to(tl.int32)
    signed = load_patterns(x_ptr + start + lanes, mask)
    random = None
    if random_ptr is not None:
        random = tl.load(random_ptr + start + lanes, mask=mask, other=0)
    codes, is_nan = encode_patterns(signed, random, None, layout, to)
    tl.store(codes_ptr + start + lanes, codes.to(codes_ptr.dtype.element_ty), mask=mask)
    if lost_ptr is not None:
        tl.store(lost_ptr, 1, mask=tl.max(is_nan.to(tl.int32), axis=0) != 0)


def encode(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """Run `incref.ops.encode` in a kernel; a tensor that is not contiguous is copied first.

    Where a format has no NaN and `nan` is ERROR, the call waits for the kernel to know whether it met one.
    """
    target = get_element_format(fmt)
    layout = float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    to = Encoding(fmt=converted(target, x.device), rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    codes = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    lost = lost_flag(x.device, may_refuse=may_refuse(to))
    tile = tile or choose(TILE, x)
    launch(
        encode_kernel,
        cdiv(x.numel(), tile.elements),
        x.contiguous(),
        None if random_bits is None else random_bits.contiguous(),
        codes,
        lost,
        x.numel(),
        device=x.device,
        tile=tile,
        layout=working_layout(layout),
        to=to,
        BLOCK=tile.elements,
    )
    raise_if_lost(lost, target)
    return codes


def why_not(x: Tensor, fmt: str | Format, *, random_bits: Tensor | None = None, **_options: object) -> str | None:
    """Say which arguments the kernel can't take."""
    return why_not_tensors({"x": x, "random_bits": random_bits}) or why_not_format(get_element_format(fmt))


KERNEL = Kernel(fn=encode, why_not=why_not)
