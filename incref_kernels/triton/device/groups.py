"""Products of several matrices in one launch: which one a program takes a tile of."""

import triton
import triton.language as tl

__all__ = ["find_group", "group_place"]


@triton.jit
def find_group(
    ends_ptr: tl.tensor,
    program: tl.tensor,
    rows: tl.tensor,
    across: tl.tensor,
    SIZE: tl.constexpr,
    GROUPS: tl.constexpr,
) -> tl.tensor:
    """Find the group of rows that a program has a tile of; every group begins with a tile of its own.

    Args:
        ends_ptr: where each of GROUPS groups ends, ascending; what is beyond `rows` is `rows`.
        program: its number; those of a group follow one another.
        rows: of all groups.
        across: tiles beside one another.
        SIZE: rows of a tile.
        GROUPS: how many there are.

    Returns:
        The group, or GROUPS if there are fewer tiles; its first row; how many it has; the program among its programs.
    """
    power: tl.constexpr = triton.next_power_of_2(GROUPS)
    group = tl.arange(0, power)
    is_group = group < GROUPS
    end = tl.load(ends_ptr + group, mask=is_group, other=0)
    start = tl.load(ends_ptr + group - 1, mask=is_group & (group > 0), other=0)
    end = tl.minimum(tl.maximum(end, 0), rows)
    start = tl.minimum(tl.maximum(start, 0), rows)
    count = tl.maximum(end - start, 0)
    programs = tl.cdiv(count, SIZE) * across
    after = tl.cumsum(programs, 0)
    found = tl.sum((is_group & (after <= program)).to(tl.int32), 0)
    is_found = group == found
    first = tl.sum(tl.where(is_found, start, 0), 0).to(tl.int64)
    height = tl.sum(tl.where(is_found, count, 0), 0)
    before = tl.sum(tl.where(is_found, after - programs, 0), 0)
    return found.to(tl.int64), first, height, program - before


@triton.jit
def group_place(
    ends_ptr: tl.tensor,
    program: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BIAS_AXIS: tl.constexpr,
    GROUPS: tl.constexpr,
) -> tl.tensor:
    """Find the group of a program of a product [M, N] of which one side is divided: that without a bias along it.

    Returns:
        The group, or GROUPS; the first of its rows; how many it has; the program among its programs; and of the other
        side where its bias begins.
    """
    if BIAS_AXIS == 1:
        group, first, count, own = find_group(ends_ptr, program, M, tl.cdiv(N, BLOCK_N), BLOCK_M, GROUPS)
        beside = group * N
    else:
        group, first, count, own = find_group(ends_ptr, program, N, tl.cdiv(M, BLOCK_M), BLOCK_N, GROUPS)
        beside = group * M
    return group, first, count, own, beside
