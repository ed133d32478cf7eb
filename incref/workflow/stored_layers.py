"""The quantized layers of a checkpoint: as they are stored, or repacked for Gaudi and kept so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from incref.checkpoints.hpu import cached_layers, unpack_hpu
from incref.checkpoints.stored import Codec, StoredLayer
from incref.errors import CheckpointError
from incref.formats import IntFormat
from incref.qtensor.qtensor import QTensor

__all__ = ["RepackedLayers", "StoredLayers"]

_BIAS = "bias"
_OPERATOR_DTYPES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


@dataclass(frozen=True, kw_only=True)
class StoredLayers:
    """The quantized layers of a checkpoint, decoded when they are asked for.

    Attributes:
        codec: decodes them.
        parts_of: for every layer the names of its tensors, that of the bias included.
        shapes: for every layer N and K in the model.
        read: reads tensors by name.
    """

    codec: Codec
    parts_of: Mapping[str, list[str]]
    shapes: Mapping[str, tuple[int, int]]
    read: Callable[[Sequence[str]], dict[str, Tensor]]

    def decode(self, name: str) -> StoredLayer:
        """Read a layer, but for its bias.

        Raises:
            CheckpointError: if it has no one meaning; the message names it.
        """
        bias = f"{name}.{_BIAS}"
        parts = self.read([part for part in self.parts_of[name] if part != bias])
        return self.codec.decode(name, {key[len(name) + 1 :]: part for key, part in parts.items()}, self.shapes[name])

    def read_bias(self, name: str) -> Tensor | None:
        """Read the bias of a layer, None if it has none."""
        bias = f"{name}.{_BIAS}"
        return self.read([bias])[bias] if bias in self.parts_of[name] else None

    def require_same(self, name: str, other: str) -> None:
        """Check that two layers have the same tensors.

        Raises:
            CheckpointError: if they don't.
        """
        mine, others = (
            {key[len(layer) :]: part for key, part in self.read(self.parts_of[layer]).items()}
            for layer in (name, other)
        )
        if mine.keys() != others.keys() or not all(torch.equal(mine[key], others[key]) for key in mine):
            raise CheckpointError(f"{other} and {name} are one layer in the model, and differ in the checkpoint")


@dataclass(frozen=True, kw_only=True)
class RepackedLayers(StoredLayers):
    """The same, integer weights in the layout of Gaudi; the others, and those whose input is quantized, are as stored.

    Attributes:
        repacked: for every integer weight what `pack_hpu` makes of it.
        dtype: of the weights.
    """

    repacked: Mapping[str, Mapping[str, Tensor]]
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        stored: StoredLayers,
        directory: Path,
        dtype: torch.dtype | None,
        *,
        weights_only: bool,
        falls_back: bool,
    ) -> "RepackedLayers":
        """Repack the layers of the checkpoint in `directory`, or read what was made of it before.

        Args:
            stored: the layers, read to the CPU.
            directory: of the checkpoint.
            dtype: of the weights: what the operator rounds scales to before it multiplies, so they are rounded here.
            weights_only: whether inputs are left alone, whatever the checkpoint says.
            falls_back: whether a weight that the operator does not take stays as it is stored.

        Raises:
            CheckpointError: if the operator does not take a weight, and it must; the message names its layer.
            ValueError: if it does not make weights of that dtype.
        """
        if dtype not in _OPERATOR_DTYPES:
            raise ValueError(
                f"Gaudi dequantizes to {' or '.join(_OPERATOR_DTYPES.values())}: "
                f"torch_dtype must be one of them on device 'hpu', got {dtype}"
            )

        def weights() -> Iterator[tuple[str, QTensor]]:
            for name in stored.parts_of:
                layer = stored.decode(name)
                if isinstance(layer.weight.spec.fmt, IntFormat) and layer.activation is None:
                    yield name, layer.weight

        variant = "weights_only" if weights_only else "as_stored"
        return cls(
            codec=stored.codec,
            parts_of=stored.parts_of,
            shapes=stored.shapes,
            read=stored.read,
            repacked=cached_layers(directory, weights, scale_dtype=dtype, variant=variant, skips=falls_back),
            dtype=dtype,
        )

    def decode(self, name: str) -> StoredLayer:
        """Give a layer, but for its bias."""
        parts = self.repacked.get(name)
        if parts is None:
            return super().decode(name)
        weight = unpack_hpu(name, parts, self.dtype)
        if weight.shape != self.shapes[name]:
            raise CheckpointError(f"{name}: the repacked weight has shape {weight.shape}, not {self.shapes[name]}")
        return StoredLayer(weight=weight)
