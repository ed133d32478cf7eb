"""Sums along K in parts, for results of too few tiles to fill a device."""

import torch
import triton
import triton.language as tl

from incref_kernels.triton.device.facts import PRODUCT, W_THEN_X, layout_of_width
from incref_kernels.triton.device.scaled import scale_values
from incref_kernels.triton.device.store import round_to
from incref_kernels.triton.targets import target_of

__all__ = ["add_parts_kernel", "parts_for"]

_PROGRAMS_EACH = 4


@triton.jit
def add_parts_kernel(
    parts_ptr: tl.tensor,
    left_ptr: tl.tensor,
    right_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    unless_ptr: tl.tensor,
    out_ptr: tl.tensor,
    numel: tl.tensor,
    N: tl.tensor,
    order: tl.constexpr,
    layout: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Add PARTS matrices in order, always the same sum; multiply by two scales, add the bias of each column, and round.

    Nothing is done where `unless_ptr` is set.
    """
    # Triton decides the outer condition while it compiles.
    if unless_ptr is not None:  # noqa: SIM102
        if tl.load(unless_ptr) != 0:
            return
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < numel
    total = tl.load(parts_ptr + place, mask=mask, other=0.0)
    for part in range(1, PARTS):
        total += tl.load(parts_ptr + part * numel.to(tl.int64) + place, mask=mask, other=0.0)
    if left_ptr is not None and right_ptr is not None and order == PRODUCT:
        total = total * (tl.load(left_ptr) * tl.load(right_ptr))
    else:
        if order != W_THEN_X and left_ptr is not None:
            total = total * tl.load(left_ptr)
        if right_ptr is not None:
            total = total * tl.load(right_ptr)
        if order == W_THEN_X and left_ptr is not None:
            total = total * tl.load(left_ptr)
    if bias_ptr is not None:
        single: tl.constexpr = layout_of_width(32)
        total += scale_values(tl.load(bias_ptr + place % N, mask=mask, other=0), single)
    patterns = round_to(total, layout)
    tl.store(out_ptr + place, patterns.to(out_ptr.dtype.element_ty), mask=mask)


def parts_for(device: torch.device, programs: int, tiles: int, most: int) -> int:
    """Choose the number of parts that occupies every multiprocessor, of at least one tile along K each.

    One program to a multiprocessor waits for memory most of the time; a few hide it from each other.
    """
    count = target_of(device).multiprocessors
    if count == 0 or programs == 0:
        return 1
    return max(1, min(most, tiles, _PROGRAMS_EACH * count // programs))
