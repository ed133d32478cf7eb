from pathlib import Path

import pytest
import torch

from incref.checkpoints.layer_journal import LayerJournal
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.qtensor.qtensor import QTensor

SPEC = SCHEMES["int4_asym_g128"].weight
WEIGHT = QTensor.quantize(torch.randn(6, 130, generator=torch.Generator().manual_seed(0)), SPEC)


def test_weights_come_back(tmp_path: Path) -> None:
    LayerJournal(tmp_path / "journal", "run").put("model.layers/0", WEIGHT)
    journal = LayerJournal(tmp_path / "journal", "run")
    found = journal.get("model.layers/0")
    assert found is not None
    assert found.metadata() == WEIGHT.metadata()
    assert all(torch.equal(found.to_tensors()[name], tensor) for name, tensor in WEIGHT.to_tensors().items())
    assert journal.get("another") is None


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    journal = LayerJournal(tmp_path / "journal", "run")
    journal.put("a", WEIGHT)
    [path] = (tmp_path / "journal").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    assert journal.get("a") is None
    path.write_bytes(b"")
    assert journal.get("a") is None


def test_the_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    LayerJournal(tmp_path / "journal", "run")
    with pytest.raises(CheckpointError, match="the journal of another run"):
        LayerJournal(tmp_path / "journal", "other")
    with pytest.raises(CheckpointError, match="is not empty and no journal"):
        LayerJournal(tmp_path, "run")
