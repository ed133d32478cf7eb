"""Where the arguments of a call lie, and whether the call left what is around and in them alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Placement

__all__ = ["Placed", "filling_new_memory", "guards_hold", "make_out", "place"]

_POISON = 0xFF
_GUARD = 64
"""Elements of poison on either side: what a vector of any machine reads at once."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Arguments in buffers of their own.

    Attributes:
        arguments: as they are given to the call.
        buffers: by name of the argument, the bytes around and in it.
        before: what these were when the arguments were placed.
    """

    arguments: Arguments
    buffers: Mapping[str, Tensor]
    before: Mapping[str, Tensor]

    def changed(self) -> list[str]:
        """Names of the arguments that were written to, or around."""
        return [name for name, buffer in self.buffers.items() if not torch.equal(buffer, self.before[name])]

    def overwrite(self) -> None:
        """Turn the elements of every tensor around: other values that are as valid, at the same addresses."""
        for one in self.arguments.values():
            if isinstance(one, Tensor):
                one.copy_(one.clone().reshape(-1).flip(0).view(one.shape))

    def restore(self) -> None:
        """Bring the values back."""
        for name, buffer in self.buffers.items():
            buffer.copy_(self.before[name])


def place(arguments: Arguments, placement: Placement, device: torch.device) -> Placed:
    """Copy every tensor into the middle of a buffer of poison: NaN of a float dtype, all bits set of an integer one."""
    placed: dict[str, object] = dict(arguments)
    buffers = {}
    for name, one in arguments.items():
        if isinstance(one, Tensor):
            placed[name], buffers[name] = _place(one, placement, device)
    return Placed(arguments=placed, buffers=buffers, before={name: buffer.clone() for name, buffer in buffers.items()})


def _place(x: Tensor, placement: Placement, device: torch.device) -> tuple[Tensor, Tensor]:
    order = list(range(x.ndim))
    if placement is Placement.TRANSPOSED:
        order.reverse()
    step = 2 if placement is Placement.STRIDED and x.ndim else 1
    shape = [x.shape[d] for d in order]
    if step == 2:
        shape[-1] *= 2
    count = torch.Size(shape).numel()
    start = _GUARD + (placement is Placement.OFFSET)
    buffer = torch.full(((start + count + _GUARD) * x.itemsize,), _POISON, dtype=torch.uint8, device=device)
    inside = buffer[start * x.itemsize : (start + count) * x.itemsize].view(x.dtype).view(shape)
    if step == 2:
        inside = inside[..., ::2]
    view = inside.permute([order.index(d) for d in range(x.ndim)]) if x.ndim else inside
    view.copy_(x)
    return view, buffer


def make_out(want: tuple[Tensor, ...], device: torch.device) -> tuple[object, Placed]:
    """Make outputs full of poison, between guard bands, for a kernel that writes to `out`."""
    poison = {
        str(i): torch.full((one.numel() * one.itemsize,), _POISON, dtype=torch.uint8).view(one.dtype).view(one.shape)
        for i, one in enumerate(want)
    }
    placed = place(poison, Placement.PLAIN, device)
    outs = tuple(placed.arguments.values())
    return (outs[0] if len(outs) == 1 else outs), placed


def guards_hold(placed: Placed) -> bool:
    """Whether the poison before and after what `make_out` made is still there."""
    for name, buffer in placed.buffers.items():
        one = placed.arguments[name]
        assert isinstance(one, Tensor)
        edge = _GUARD * one.itemsize
        if not bool((buffer[:edge] == _POISON).all() and (buffer[-edge:] == _POISON).all()):
            return False
    return True


@contextmanager
def filling_new_memory() -> Iterator[None]:
    """Have PyTorch fill what it allocates with NaN, or the greatest integer, so that what is not written is seen."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        with catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0], warn_only=before[1])
