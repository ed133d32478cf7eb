"""What becomes of one layer, and why."""

import math
from dataclasses import dataclass

from incref.config.rules import Layer
from incref.config.scheme import InputScheme, LayerScheme
from incref.config.stored_weight import stored_weight
from incref.nn.inputs_only import InputsOnly

__all__ = ["Decision", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a layer.

    Attributes:
        name: of the layer in its model.
        layer: the layer, or the module without weights.
        scheme: what it becomes; None if it stays as it is.
        reason: why it stays as it is, or which rule it follows.
    """

    name: str
    layer: Layer | InputsOnly
    scheme: LayerScheme | InputScheme | None
    reason: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight; empty if there is none."""
        return () if isinstance(self.layer, InputsOnly) else tuple(self.layer.weight.shape)

    @property
    def float_bytes(self) -> int:
        """Bytes that the weight takes now."""
        return 0 if isinstance(self.layer, InputsOnly) else self.layer.weight.nbytes

    @property
    def stored_bytes(self) -> int:
        """Bytes that the weight takes afterwards, with all its scales."""
        if isinstance(self.layer, InputsOnly) or not isinstance(self.scheme, LayerScheme):
            return self.float_bytes
        return self.scheme.stored_bytes(stored_weight(self.layer, self.scheme).shape)

    @property
    def bits_per_weight(self) -> float:
        """Bits of those bytes for each element."""
        return 8 * self.stored_bytes / max(1, math.prod(self.shape))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of a model.

    Attributes:
        decisions: of every linear layer and convolution, in the order of the model, and then of every module without
            weights.
    """

    decisions: tuple[Decision, ...]

    @property
    def schemes(self) -> dict[str, LayerScheme]:
        """What every layer that changes becomes, by its name."""
        return {one.name: one.scheme for one in self.decisions if isinstance(one.scheme, LayerScheme)}

    @property
    def inputs(self) -> dict[str, InputScheme]:
        """What happens to the inputs of every module without weights that changes, by its name."""
        return {one.name: one.scheme for one in self.decisions if isinstance(one.scheme, InputScheme)}

    @property
    def changes(self) -> dict[str, LayerScheme | InputScheme]:
        """Both of these: all that makes a quantized model another one than the float model."""
        return {one.name: one.scheme for one in self.decisions if one.scheme is not None}

    @property
    def stored_bytes(self) -> int:
        """Bytes of all their weights afterwards."""
        return sum(one.stored_bytes for one in self.decisions)

    @property
    def float_bytes(self) -> int:
        """Bytes of all their weights now."""
        return sum(one.float_bytes for one in self.decisions)

    def __str__(self) -> str:
        """One line for each layer: name, shape, what it becomes, bits for each weight, and why."""
        rows = [
            (
                one.name,
                " x ".join(map(str, one.shape)),
                str(one.scheme) if one.scheme is not None else "as it is",
                f"{one.bits_per_weight:.3f}",
                one.reason,
            )
            for one in self.decisions
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)
