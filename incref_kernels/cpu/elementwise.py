"""Runs kernels that do the same to every element."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from incref_kernels.cpu.jit.kernel import Matrices, TileKernel
from incref_kernels.cpu.launch import ELEMENTS, are_contiguous, element, pieces

__all__ = ["run_elementwise"]


def run_elementwise(body: "partial[Tensor]", inputs: Sequence[Tensor | None], out: Tensor) -> bool:
    """Apply `body` to every element.

    Args:
        body: takes those inputs that are there.
        inputs: tensors of one shape, or None.
        out: what is written; an input, or memory of its own.

    Returns:
        Whether an element was lost.
    """
    given = [x for x in inputs if x is not None]
    kernel = TileKernel(
        body=body,
        inputs=tuple(element(x.dtype) for x in given),
        outputs=(element(out.dtype),),
        shape=ELEMENTS,
    )
    if are_contiguous([*given, out]):
        return kernel.launch([*given, out], Matrices(matrices=1, length=1, inner=out.numel()))
    lost = False
    for part in pieces(out, (1,) * out.ndim):
        copies = [x[part].contiguous() for x in given]
        made = torch.empty(copies[0].shape, dtype=out.dtype)
        lost |= kernel.launch([*copies, made], Matrices(matrices=1, length=1, inner=made.numel()))
        out[part] = made
    return lost
