"""Mistakes of the usual kinds, each planted in a kernel that is right without it, and the option that names it."""

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.native import native
from incref_kernels.triton.native.order import assert_order_independent


@triton.jit
def scale_kernel(x, y, n, stride, BUG: tl.constexpr, N: tl.constexpr):
    at = tl.program_id(0) * (N // 2 if BUG == "overlapping blocks" else N) + tl.arange(0, N)
    inside = at < (n + 1 if BUG == "mask off by one" else n)
    if BUG == "wrong stride":
        value = tl.load(x + at * (stride + 1), mask=inside, other=0.0)
    else:
        value = tl.load(x + at * stride, mask=inside, other=0.0)
    value = value / (value - value) if BUG == "division by zero" else value * 2
    if BUG == "missing mask of a store":
        tl.store(y + at, value)
    elif BUG == "tail left out":
        tl.store(y + at, value, mask=at < n // N * N)
    elif BUG == "added to what was never set":
        tl.store(y + at, tl.load(y + at, mask=inside) + value, mask=inside)
    elif BUG == "negative offset":
        tl.store(y + at - 1, value, mask=inside)
    elif BUG == "same place for every program":
        tl.store(y + tl.arange(0, N), value)
    else:
        tl.store(y + at, value, mask=inside)
    if BUG == "assumption that does not hold":
        tl.device_assert(n % N == 0, "n must be a multiple of the block")


@triton.jit
def row_sum_kernel(x, y, N: tl.constexpr, AXIS: tl.constexpr):
    at = tl.arange(0, N)
    tile = tl.load(x + at[:, None] * N * 2 + tl.arange(0, N * 2)[None] % N)
    tl.store(y + tl.arange(0, N if AXIS == 1 else N * 2), tl.sum(tile, AXIS))


@triton.jit
def add_kernel(x, y, n, N: tl.constexpr, BUG: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    # A load without a mask whose result is used only under one is moved there by the compiler; a sum uses all of it.
    value = tl.sum(tl.load(x + at) if BUG == "missing mask of a load" else tl.load(x + at, mask=at < n, other=0.0))
    if BUG == "race between programs":
        tl.store(y, tl.load(y) + value)
    elif BUG == "last one wins":
        tl.store(y, value)
    else:
        tl.atomic_add(y, value)


@triton.jit
def offset_kernel(x, y, step, BUG: tl.constexpr):
    row = tl.program_id(0)
    offset = row * step if BUG == "offset beyond 32 bits" else row.to(tl.int64) * step
    tl.store(y + row, tl.load(x + offset % 4))


Options = dict[str, object]
N = 64

SCALE: list[tuple[str, Options, str]] = [
    (
        "missing mask of a store",
        {"bounds": True},
        r"store of \d+ bytes out of bounds: element 100 of y, which holds 100",
    ),
    ("mask off by one", {"bounds": True}, r"load of \d+ bytes out of bounds: element 100 of x, which holds 100"),
    ("wrong stride", {"bounds": True}, r"load of \d+ bytes out of bounds: element \d+ of x, which holds 100"),
    ("negative offset", {"bounds": True}, r"store of \d+ bytes out of bounds: element -1 of y, which holds 100"),
    ("overlapping blocks", {"writers": True}, r"to what program \(0, 0, 0\) stored to: element 32 of y"),
    ("same place for every program", {"writers": True}, r"to what program \(0, 0, 0\) stored to: element 0 of y"),
    ("tail left out", {"outputs": ("y",)}, r"36 of the 100 elements of y are never written; the first is \(64,\)"),
    ("added to what was never set", {"outputs": ("y",)}, r"before anything was stored there: element 0 of y"),
    ("division by zero", {"nans": True}, r"gives NaN of operands that are none"),
]


@pytest.mark.parametrize(("bug", "options", "message"), SCALE)
def test_named_with_its_place(bug: str, options: Options, message: str) -> None:
    x, y = torch.zeros(100), torch.zeros(100)
    run: Callable[..., None] = native(scale_kernel, threads=1, **options)[2]  # type: ignore[arg-type]
    run(x, y, 100, 1, BUG="", N=N)
    with pytest.raises(KernelError, match=rf"kernel scale_kernel.*{message}"):
        run(x, y, 100, 1, BUG=bug, N=N)


def test_an_assumption_that_does_not_hold() -> None:
    run = native(scale_kernel)[2]
    run(torch.zeros(128), torch.zeros(128), 128, 1, BUG="assumption that does not hold", N=N, debug=True)
    with pytest.raises(KernelError, match="n must be a multiple of the block"):
        run(torch.zeros(100), torch.zeros(100), 100, 1, BUG="assumption that does not hold", N=N, debug=True)


def test_a_reduction_along_the_wrong_axis_leaves_the_output() -> None:
    x = torch.zeros(32 * 64)
    native(row_sum_kernel, bounds=True)[1](x, torch.zeros(32), N=32, AXIS=1)
    with pytest.raises(KernelError, match=r"store of \d+ bytes out of bounds: element 32 of y, which holds 32"):
        native(row_sum_kernel, bounds=True)[1](x, torch.zeros(32), N=32, AXIS=0)


def test_a_load_without_a_mask() -> None:
    native(add_kernel, bounds=True)[2](torch.zeros(100), torch.zeros(1), 100, N=N, BUG="")
    with pytest.raises(KernelError, match=r"load of \d+ bytes out of bounds: element 100 of x, which holds 100"):
        native(add_kernel, bounds=True)[2](torch.zeros(100), torch.zeros(1), 100, N=N, BUG="missing mask of a load")


@pytest.mark.parametrize("bug", ["race between programs", "last one wins"])
def test_programs_that_share_an_element(bug: str) -> None:
    x = torch.arange(256.0)
    y = torch.zeros(1)
    native(add_kernel, writers=True)[4](x, y, 256, N=N, BUG="")
    assert y.item() == x.sum()
    with pytest.raises(KernelError, match=r"to what program \(0, 0, 0\) stored to: element 0 of y"):
        native(add_kernel, writers=True, threads=1)[4](x, y, 256, N=N, BUG=bug)


def test_the_last_one_wins_depends_on_the_order() -> None:
    x, y = torch.arange(256.0), torch.zeros(1)
    with pytest.raises(KernelError, match="depends on the order"):
        assert_order_independent(add_kernel, (4,), x, y, 256, N=N, BUG="last one wins")


def test_an_offset_beyond_32_bits() -> None:
    x, y = torch.zeros(4), torch.zeros(5)
    native(offset_kernel)[5](x, y, 2**29, BUG="", debug=True)
    with pytest.raises(KernelError, match="int32 overflow detected for operation mul"):
        native(offset_kernel)[5](x, y, 2**29, BUG="offset beyond 32 bits", debug=True)
