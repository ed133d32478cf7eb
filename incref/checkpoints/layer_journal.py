"""Quantized weights kept as soon as they are there, so that a conversion that was stopped goes on where it was."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from incref.checkpoints.files import write_atomically
from incref.errors import CheckpointError
from incref.qtensor.qtensor import QTensor

__all__ = ["LayerJournal"]

_RUN_FILE = "run.json"


class LayerJournal:
    """A directory with a file for each layer that is finished, and one that says what run they are of."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        """Open the journal of the run called `fingerprint`; the directory is made if it is not there.

        Raises:
            CheckpointError: if the directory holds the journal of another run.
        """
        self._directory = directory
        run = directory / _RUN_FILE
        if run.exists():
            found = run.read_text(encoding="utf-8").strip()
            if found != json.dumps(fingerprint):
                raise CheckpointError(
                    f"{directory} is the journal of another run: the model, the configuration, the calibration data or "
                    "the version of torch or incref differ; delete it, or give another directory"
                )
        elif directory.exists() and any(directory.iterdir()):
            raise CheckpointError(f"{directory} is not empty and no journal; give another directory")
        else:
            write_atomically(run, (json.dumps(fingerprint) + "\n").encode())

    def get(self, name: str) -> QTensor | None:
        """Give the weight of the layer called `name`, or None; one in a file that can't be read counts as none.

        Its tensors stay in the file until their values are looked at.
        """
        try:
            with safe_open(self._path(name), framework="pt") as file:
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
                metadata = json.loads(file.metadata()["qtensor"])
            return QTensor.from_tensors(tensors, metadata)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def put(self, name: str, qweight: QTensor) -> None:
        """Keep the weight of the layer called `name`; once this returns it outlives the process."""
        tensors = {key: tensor.cpu().contiguous() for key, tensor in qweight.to_tensors().items()}
        write_atomically(self._path(name), save(tensors, metadata={"qtensor": json.dumps(qweight.metadata())}))

    def _path(self, name: str) -> Path:
        # A name may have characters that a file name can't have.
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"
