"""How large a model really is: its tensors in memory and its files on disk."""

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from incref.modules.layer import QuantLayer

__all__ = ["ModelSize", "file_bytes", "measure_size"]


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Elements and bytes of a model; a tensor that two layers share counts once.

    Attributes:
        weight_elements: elements of the weights that are quantized.
        weight_bytes: bytes that these take, with all their scales and zero points.
        elements: elements of all parameters and saved buffers, a quantized weight counting what it stands for.
        bytes: bytes that these take.
    """

    weight_elements: int
    weight_bytes: int
    elements: int
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight that is quantized; those of any parameter if none is."""
        return 8 * self.weight_bytes / self.weight_elements if self.weight_elements else self.bits_per_parameter

    @property
    def bits_per_parameter(self) -> float:
        """Bits of a parameter, quantized or not; 0 if there is none."""
        return 8 * self.bytes / self.elements if self.elements else 0.0


def measure_size(model: nn.Module) -> ModelSize:
    """Add up the tensors of `model` that a checkpoint of it holds."""
    weight_elements = weight_bytes = 0
    quantized: set[int] = set()
    for module in model.modules():
        if isinstance(module, QuantLayer):
            qweight = module.qweight
            weight_elements += math.prod(qweight.shape)
            weight_bytes += qweight.nbytes
            quantized |= {_place(tensor) for tensor in qweight.to_tensors().values()}
    others = {_place(tensor): tensor for tensor in model.state_dict().values() if _place(tensor) not in quantized}
    return ModelSize(
        weight_elements=weight_elements,
        weight_bytes=weight_bytes,
        elements=weight_elements + sum(tensor.numel() for tensor in others.values()),
        bytes=weight_bytes + sum(tensor.nbytes for tensor in others.values()),
    )


def file_bytes(directory: Path) -> int:
    """Bytes of the safetensors files of a directory, headers included."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _place(tensor: Tensor) -> int:
    return tensor.data_ptr()
