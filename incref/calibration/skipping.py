"""Calls of a model in which its blocks, and what follows the last of them, are not computed."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor, nn

from incref.calibration.patched import patched

__all__ = ["Wrapping", "skip_blocks"]


@dataclass(frozen=True)
class Wrapping:
    """What a block returns its hidden state in.

    Attributes:
        kind: a type of sequence, with None after the hidden state; None for the bare tensor.
        length: of the sequence.
    """

    kind: type | None = None
    length: int = 1

    @classmethod
    def of(cls, output: object) -> "Wrapping | None":
        """How `output` is wrapped; None if something else is in it."""
        if isinstance(output, Tensor):
            return cls()
        for kind in (tuple, list):
            if type(output) is kind and output and all(entry is None for entry in output[1:]):
                return cls(kind, len(output))
        return None

    def wrap(self, hidden: object) -> object:
        """Wrap another hidden state likewise."""
        return hidden if self.kind is None else self.kind([hidden, *[None] * (self.length - 1)])


class _EndedError(Exception):
    """Ends a call at the last block. Not a BaseException: hooks that are always called are not called for those."""


def skip_blocks(
    run: Callable[[], object],
    blocks: Sequence[nn.Module],
    wrappings: Sequence[Wrapping],
    find_hidden: Callable[[tuple[object, ...], dict[str, object]], object],
) -> None:
    """Run something that calls `blocks`, each of which gives what it gets, until the last one is called.

    Args:
        run: what calls them.
        blocks: the blocks.
        wrappings: of what each of them returns.
        find_hidden: finds the hidden state in arguments.
    """

    def end(*_: object, **__: object) -> object:
        raise _EndedError

    def passing(wrapping: Wrapping) -> Callable[..., object]:
        return lambda *args, **kwargs: wrapping.wrap(find_hidden(args, kwargs))

    forwards = [*(passing(wrapping) for wrapping in wrappings[:-1]), end]
    with patched(dict(zip(blocks, forwards, strict=True))), suppress(_EndedError):
        run()
