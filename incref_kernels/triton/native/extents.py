"""The memory of the tensors that a kernel was given, by argument."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Extent", "extents_of", "nearest", "table"]


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


def nearest(extents: Sequence[Extent], address: int) -> str:
    """Say where `address` lies in relation to the tensor that it is closest to."""
    if not extents:
        return "the kernel was given no tensor"
    extent = min(extents, key=lambda item: max(item.start - address, address - item.end, 0))
    element = extent.tensor.element_size()
    offset = (address - extent.start) // element
    held = (extent.end - extent.start) // element
    return f"element {offset} of {extent.name}, which holds {held}"
