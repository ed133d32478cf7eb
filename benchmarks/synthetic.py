"""Checkpoints of models that nobody trained, written one tensor at a time."""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from incref.checkpoints.shards import INDEX_FILE

__all__ = ["write_checkpoint"]


def write_checkpoint(tensors: Iterable[tuple[str, Tensor]], directory: Path) -> int:
    """Write tensors to a new directory, each to a file of its own, so that one at a time is in memory.

    Returns:
        The bytes of all tensors.
    """
    directory.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    total = 0
    for name, tensor in tensors:
        weight_map[name] = f"{name}.safetensors"
        save_file({name: tensor}, directory / weight_map[name], metadata={"format": "pt"})
        total += tensor.nbytes
    (directory / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return total
