"""The memory of the tensors that a kernel was given, by argument."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.errors import IncrefError

__all__ = ["Extent", "KernelError", "extents_of", "marks_of", "nearest", "notes_of", "require_written", "table"]


class KernelError(IncrefError, RuntimeError):
    """A kernel did what no GPU would take well; the message says what, where, and in which program."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The memory of one tensor.

    Attributes:
        name: the argument.
        tensor: the tensor, kept alive.
        start: address of its first byte.
        end: address after its last byte.
    """

    name: str
    tensor: Tensor
    start: int
    end: int


def extents_of(arguments: Mapping[str, object]) -> list[Extent]:
    """List the tensors among the arguments, those in tuples and descriptors too."""
    return [extent for name, value in arguments.items() for extent in _found(name, value)]


def _found(name: str, value: object) -> Iterator[Extent]:
    if isinstance(value, Tensor):
        steps = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        last = (steps + 1) * value.element_size() if value.numel() else 0
        yield Extent(name=name, tensor=value, start=value.data_ptr(), end=value.data_ptr() + last)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _found(f"{name}[{index}]", item)
    elif isinstance(getattr(value, "base", None), Tensor):
        yield from _found(name, value.base)  # type: ignore[attr-defined]


def table(extents: Sequence[Extent]) -> "array[int]":
    """Write them as the checks read them."""
    return array("q", [address for extent in extents for address in (extent.start, extent.end)])


def marks_of(extents: Sequence[Extent], outputs: Sequence[str]) -> Tensor:
    """Give every byte of the tensors a mark, uint8: 0 in those of `outputs`, which hold nothing yet, else 1.

    Raises:
        ValueError: if one of `outputs` is no tensor among the arguments.
    """
    known = {extent.name for extent in extents}
    for name in outputs:
        if name not in known:
            raise ValueError(f"outputs are arguments that are tensors, {', '.join(sorted(known))}, got {name!r}")
    marks = torch.ones(_bytes(extents), dtype=torch.uint8)
    start = 0
    for extent in extents:
        held = extent.end - extent.start
        if extent.name in outputs:
            marks[start : start + held] = 0
        start += held
    return marks


def notes_of(extents: Sequence[Extent]) -> Tensor:
    """Give every byte of the tensors a note, int32, all 0."""
    return torch.zeros(_bytes(extents), dtype=torch.int32)


def _bytes(extents: Sequence[Extent]) -> int:
    return sum(extent.end - extent.start for extent in extents)


def require_written(kernel: str, extents: Sequence[Extent], outputs: Sequence[str], marks: Tensor) -> None:
    """Check that every element of `outputs` was stored to.

    Raises:
        KernelError: if one was not; the message says which is the first.
    """
    start = 0
    for extent in extents:
        own = marks[start : start + extent.end - extent.start]
        start += extent.end - extent.start
        tensor = extent.tensor
        if extent.name not in outputs or not tensor.numel():
            continue
        width = tensor.element_size()
        elements = own.as_strided((*tensor.shape, width), (*(width * step for step in tensor.stride()), 1))
        missing = (elements == 0).any(-1).nonzero()
        if len(missing):
            raise KernelError(
                f"kernel {kernel}: {len(missing)} of the {tensor.numel()} elements of {extent.name} are never written; "
                f"the first is {tuple(missing[0].tolist())}"
            )


def nearest(extents: Sequence[Extent], address: int) -> str:
    """Say where `address` lies in relation to the tensor that it is closest to."""
    if not extents:
        return "the kernel was given no tensor"
    extent = min(extents, key=lambda item: max(item.start - address, address - item.end, 0))
    element = extent.tensor.element_size()
    offset = (address - extent.start) // element
    held = (extent.end - extent.start) // element
    return f"element {offset} of {extent.name}, which holds {held}"
