"""Debug mode: whether a kernel's result depends on the order in which its programs run."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref_kernels.triton.native.extents import Extent, KernelError, extents_of
from incref_kernels.triton.native.native import Grid, native

__all__ = ["assert_order_independent"]


def assert_order_independent(
    kernel: object, grid: Grid, *args: object, seeds: Sequence[int] = (1, 2, 3), **kwargs: object
) -> None:
    """Run a kernel with its programs in ascending order, then once for each seed shuffled, from the same memory.

    The tensors hold the results of the ascending order afterwards.

    Args:
        kernel: what `native` takes.
        grid: how many programs.
        args: the kernel's arguments.
        seeds: each gives an order.
        kwargs: the kernel's arguments by name.

    Raises:
        KernelError: at the first element whose bits differ: two programs race for it, or one reads what another writes.
    """
    named = {**{f"argument {index}": value for index, value in enumerate(args)}, **kwargs}
    extents = extents_of(named)
    before = [_bytes(extent).clone() for extent in extents]
    native(kernel, threads=1)[grid](*args, **kwargs)
    want = [_bytes(extent).clone() for extent in extents]
    for seed in seeds:
        _restore(extents, before)
        native(kernel, threads=1, seed=seed)[grid](*args, **kwargs)
        for extent, expected in zip(extents, want, strict=True):
            _compare(extent, expected, seed)
    _restore(extents, want)


def _bytes(extent: Extent) -> Tensor:
    """The memory from a tensor's first byte to its last."""
    step = extent.tensor.element_size()
    # Autograd need not know: what is restored holds what it held.
    flat = extent.tensor.data.as_strided(((extent.end - extent.start) // step,), (1,))
    return flat.view(torch.uint8)


def _restore(extents: Sequence[Extent], contents: Sequence[Tensor]) -> None:
    for extent, content in zip(extents, contents, strict=True):
        _bytes(extent).copy_(content)


def _compare(extent: Extent, expected: Tensor, seed: int) -> None:
    differs = (_bytes(extent) != expected).nonzero()
    if len(differs):
        element = int(differs[0]) // extent.tensor.element_size()
        raise KernelError(
            f"{extent.name} depends on the order of the programs: element {element} differs with seed {seed}; "
            "two programs write it, or one reads what another writes"
        )
