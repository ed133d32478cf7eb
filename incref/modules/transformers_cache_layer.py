"""One layer of a cache of transformers that keeps codes. Importing this imports transformers."""

from collections.abc import Callable

from torch import Tensor
from transformers.cache_utils import DynamicLayer

from incref.modules.stored_tokens import StoredTokens

__all__ = ["QuantizedLayer"]


class QuantizedLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # untyped in transformers
    """Keeps keys and values as codes; `keys` and `values` are those."""

    def __init__(self, keys: StoredTokens, values: StoredTokens) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.stored = (keys, values)

    def lazy_initialization(self, key_states: Tensor, *_: object) -> None:
        """Learn dtype and device of what is to come."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keep the new states, and give all of them, dequantized."""
        if not self.is_initialized:
            self.lazy_initialization(key_states)
        for stored, states in zip(self.stored, (key_states, value_states), strict=True):
            stored.append(states)
        self._show()
        keys, values = (stored.read(self.dtype) for stored in self.stored)
        return keys, values

    def crop(self, tokens_to_remove: int) -> None:
        """Take that many tokens away from the end, as a negative number."""
        # Some versions give the number to keep, as a positive one.
        self._map(lambda kept: kept[..., :tokens_to_remove, :] if tokens_to_remove else kept)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Pick items of the batch: for a search by beams."""
        self._map(lambda kept: kept.index_select(0, beam_idx.to(kept.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every item of the batch."""
        self._map(lambda kept: kept.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Pick items of the batch."""
        self._map(lambda kept: kept[indices, ...])

    def offload(self) -> None:
        """Move everything to the CPU."""
        self._map(lambda kept: kept.to("cpu"))

    def prefetch(self) -> None:
        """Move everything back."""
        if self.is_initialized:
            self._map(lambda kept: kept.to(self.device))

    def reset(self) -> None:
        """Forget everything."""
        for stored in self.stored:
            stored.reset()
        self.is_initialized = False
        self._show()

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        for stored in self.stored:
            stored.map(change)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (stored.codes for stored in self.stored)
