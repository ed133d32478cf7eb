"""What calibration measured, as a file: so that a model is measured once, and quantized as often as one likes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from incref.checkpoints.files import file_digest, write_atomically
from incref.errors import CheckpointError
from incref.qtensor.format_json import Json

__all__ = ["read_measurements", "write_measurements"]

_FORMAT = "incref measurements"
_VERSION = 1


def write_measurements(path: Path, amax: Mapping[str, Tensor], channels: Mapping[str, Tensor] | None = None) -> None:
    """Write the largest magnitude of the input of every layer, by its name, as JSON.

    Args:
        path: of the file.
        amax: float32 [].
        channels: likewise of every channel, float32 [C]; written to a file of tensors beside it, of the same name but
            for ".safetensors", if there are any.

    Raises:
        ValueError: if one is NaN or Inf; the message names the layer.
    """
    found = {name: value.item() for name, value in amax.items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}: calibration data made its input NaN or Inf; look at what the model is fed")
    described: dict[str, Json] = {"format": _FORMAT, "version": _VERSION, "input_amax": dict(found)}
    if channels:
        tensors = path.with_suffix(".safetensors")
        kept = {name: values.cpu().contiguous() for name, values in channels.items()}
        write_atomically(tensors, save(kept, metadata={"format": "pt"}))
        described["channel_amax"] = {"file": tensors.name, "sha256": file_digest(tensors)}
    write_atomically(path, (json.dumps(described, indent=1) + "\n").encode())


def read_measurements(path: Path) -> dict[str, Tensor]:
    """Read what `write_measurements` wrote: float32 [] by name of the layer.

    Raises:
        CheckpointError: if there is no such file, or it is not one.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}; prepare the model, feed it calibration data and call finalize_calibration first"
        )
    try:
        found = _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not what finalize_calibration writes; measure again ({type(error).__name__}: {error})"
        ) from error
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in found.items()}


def _from_json(described: Json) -> dict[str, float]:
    if not isinstance(described, dict) or [described["format"], described["version"]] != [_FORMAT, _VERSION]:
        raise ValueError(f'it has no "format": "{_FORMAT}" and "version": {_VERSION}')
    amax = described["input_amax"]
    if not isinstance(amax, dict):
        raise TypeError(f"input_amax is no object but {amax!r}")
    found = {name: float(value) for name, value in amax.items() if isinstance(value, float | int)}
    if len(found) != len(amax):
        raise TypeError("a magnitude is no number")
    if not all(math.isfinite(value) and value >= 0 for value in found.values()):
        raise ValueError("a magnitude is negative, NaN or Inf")
    return found
