"""What the launchers of all kernels need."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from incref.errors import NanError
from incref.formats import CodebookFormat, ElementFormat
from incref.numerics.chunks import Slices, chunk_slices
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape

__all__ = [
    "ELEMENTS",
    "PIECE_BYTES",
    "WIDEST_CODE",
    "are_contiguous",
    "element",
    "pieces",
    "raise_if_lost",
    "why_not_format",
    "why_not_plain",
    "why_not_tensors",
]

ELEMENTS = TileShape(rows=0, lanes=32)
"""Of kernels that do the same to every element: enough for a processor to work on several vectors at once."""

PIECE_BYTES = 1 << 22
"""Of a piece of a tensor that is copied: far below the 64 MiB that a kernel may take, with all that is made of it."""

WIDEST_CODE = 16
"""Codes that are kept in float32's integers, with room for a sign and a carry."""


def element(dtype: torch.dtype) -> Port:
    """A tensor with one element for each of the tile."""
    return Port(kind=Kind.ELEMENT, dtype=dtype)


def are_contiguous(tensors: Sequence[Tensor | None]) -> bool:
    """Whether all tensors that are there are."""
    return all(tensor is None or tensor.is_contiguous() for tensor in tensors)


def pieces(x: Tensor, unit: Sequence[int]) -> Iterator[Slices]:
    """Cover a tensor that can't be read where it lies with pieces that are copied one at a time."""
    return chunk_slices(x.shape, unit, max(x.itemsize, 4), limit=PIECE_BYTES)


def why_not_tensors(tensors: Mapping[str, Tensor | None]) -> str | None:
    """Say which tensors the kernels can't take."""
    if torch.compiler.is_compiling():
        return "it is compiled already, and torch.compile can't look into it"
    return why_not_plain(tensors)


def why_not_plain(tensors: Mapping[str, Tensor | None]) -> str | None:
    """Say which tensors are not plain ones on the CPU."""
    for name, x in tensors.items():
        if x is None:
            continue
        if x.device.type != "cpu":
            return f"it takes tensors on the CPU, got {name} on {x.device}"
        if x.layout is not torch.strided:
            return f"it takes strided tensors, got {name} as {x.layout}"
        if type(x) not in _PLAIN:
            return f"it takes plain tensors, got {name} as {type(x).__name__}"
    return None


_PLAIN = (Tensor, torch.nn.Parameter)


def why_not_format(fmt: ElementFormat) -> str | None:
    """Say why the codes of a format can't be made or read."""
    if isinstance(fmt, CodebookFormat):
        return f"it computes codes, and those of {fmt.name} are places in a list"
    return None if fmt.bits <= WIDEST_CODE else f"it takes codes of at most {WIDEST_CODE} bits, got {fmt.name}"


def raise_if_lost(lost: bool, fmt: ElementFormat) -> None:  # noqa: FBT001  # what a launch returns
    """Raise `NanError` if a kernel met an element that has no code."""
    if lost:
        raise NanError(f"{fmt.name} has no NaN for the elements that are, or become, NaN; choose another NanRule")
