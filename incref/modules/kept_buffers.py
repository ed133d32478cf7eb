"""Buffers that keep their dtype."""

from collections.abc import Callable

from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["KeptBuffers"]


class KeptBuffers(nn.Module):
    """A module whose buffers are moved with the model, but keep their dtype: a cast would round scales."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module; buffers keep their dtype."""
        kept = {name: buffer.dtype for name, buffer in self._buffers.items() if buffer is not None}
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # untyped in torch
        for name, dtype in kept.items():
            moved, old = self._buffers[name], before[name]
            assert moved is not None
            assert old is not None
            if moved.dtype is not dtype:
                self._buffers[name] = old.to(moved.device)
        return self
