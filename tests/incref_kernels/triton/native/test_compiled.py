"""What a launch keeps beside its arguments: nothing unless a check asks for it."""

from collections.abc import Callable, Sequence

import pytest
import torch
import triton
import triton.language as tl

from incref_kernels.triton.native import compiled
from incref_kernels.triton.native.compiled import CompiledKernel
from incref_kernels.triton.native.host.races import NOTE_BYTES
from incref_kernels.triton.native.native import native

SIZE = 4096


@triton.jit
def sum_kernel(x, y, N: tl.constexpr):
    tl.store(y + tl.arange(0, N), tl.sum(tl.load(x + tl.arange(0, N)), 0) + tl.zeros((N,), tl.float32))


# Options, and how many tables of extents, notes and marks are made: both tensors hold SIZE floats.
CASES: list[tuple[dict[str, object], dict[str, int]]] = [
    ({}, {"extents": 0, "notes": 0, "marks": 0}),
    ({"seed": 1}, {"extents": 0, "notes": 0, "marks": 0}),
    ({"bounds": True}, {"extents": 2, "notes": 0, "marks": 0}),
    ({"shared": True}, {"extents": 2, "notes": 0, "marks": 0}),
    ({"nans": True}, {"extents": 2, "notes": 0, "marks": 0}),
    ({"writers": True}, {"extents": 2, "notes": 8 * SIZE, "marks": 0}),
    ({"outputs": ("y",)}, {"extents": 2, "notes": 0, "marks": 8 * SIZE}),
]


@pytest.mark.parametrize(("options", "want"), CASES, ids=lambda value: next(iter(value), "unchecked"))
def test_only_what_a_check_needs_is_kept(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], want: dict[str, int]
) -> None:
    made = dict.fromkeys(want, 0)
    kernels: list[CompiledKernel] = []

    def counted(name: str, make: Callable[..., Sequence[object]]) -> Callable[..., Sequence[object]]:
        def call(*arguments: object) -> Sequence[object]:
            result = make(*arguments)
            made[name] += len(result)
            return result

        return call

    load = CompiledKernel.load
    monkeypatch.setattr(
        CompiledKernel, "load", lambda *args, **given: kernels.append(load(*args, **given)) or kernels[0]
    )
    for name in made:
        function = f"{name}_of"
        monkeypatch.setattr(compiled, function, counted(name, getattr(compiled, function)))
    x, y = torch.ones(SIZE), torch.empty(SIZE)
    native(sum_kernel, **options)[1](x, y, N=SIZE)
    assert (y == SIZE).all()
    assert made == want
    layout = kernels[0].layout
    assert layout.watched == (layout.shared if "shared" in options else 0)
    assert NOTE_BYTES * layout.shared > 0
