"""`QuantEmbedding` and `QuantEmbeddingBag`: tables of rows that are quantized."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from incref.modules.layer import QuantLayer

__all__ = ["QuantEmbedding", "QuantEmbeddingBag"]


class _QuantTable(QuantLayer):
    """A table [num_embeddings, embedding_dim] whose rows are looked up.

    Rows have the dtype that the table had; casting the module to another changes that.

    Attributes:
        num_embeddings: how many rows there are.
        embedding_dim: how long they are.
        padding_idx: the row that stands for nothing, or None.
    """

    padding_idx: int | None = None

    def take_over(self, layer: nn.Module) -> None:
        """Take over the row that stands for nothing."""
        assert isinstance(layer, nn.Embedding | nn.EmbeddingBag)
        self.padding_idx = layer.padding_idx

    def _take_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2:
            raise ValueError(f"a table is a matrix [num_embeddings, embedding_dim], got shape {shape}")
        self.num_embeddings, self.embedding_dim = shape

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        del bias
        return F.embedding(x, weight, self.padding_idx)

    def _spread(self, bias: Tensor) -> Tensor:
        return bias

    def _describe(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module; the scales stay what they are, and rows follow the model."""
        super()._apply(fn, recurse)
        self._dtype = fn(torch.empty(0, dtype=self._dtype)).dtype
        return self


class QuantEmbedding(_QuantTable):
    """Look up rows of the dequantized table [num_embeddings, embedding_dim]. For arguments see `QuantLayer`."""

    def forward(self, x: Tensor) -> Tensor:
        """Look up the rows x, int32 or int64 [...]: [..., embedding_dim]."""
        return self._apply_weight(x, self._dequantized(self._dtype), None)


class QuantEmbeddingBag(_QuantTable):
    """Look up bags of rows of the dequantized table, and add them up. For arguments see `QuantLayer`.

    Attributes:
        mode: "sum", "mean" or "max".
        include_last_offset: as in `nn.EmbeddingBag`.
    """

    mode = "mean"
    include_last_offset = False

    def take_over(self, layer: nn.Module) -> None:
        """Take over what is done with a bag."""
        super().take_over(layer)
        assert isinstance(layer, nn.EmbeddingBag)
        self.mode, self.include_last_offset = layer.mode, layer.include_last_offset

    def forward(self, x: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Look up bags; the arguments are those of `nn.EmbeddingBag`."""
        return F.embedding_bag(
            x,
            self._dequantized(self._dtype),
            offsets,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def _describe(self) -> str:
        return f"{super()._describe()}, mode={self.mode}"
