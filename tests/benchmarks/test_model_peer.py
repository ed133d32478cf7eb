from pathlib import Path

import pytest
import torch

from benchmarks import model_peer
from benchmarks.model_peer import ask_neural_compressor


def test_a_library_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert ask_neural_compressor(None, 1) == "not installed"
    assert ask_neural_compressor(tmp_path, 1) == "not installed"


def test_a_processor_without_products_of_integers_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "neural-compressor-pt").mkdir()
    monkeypatch.setattr(model_peer, "multiplies_int8_exactly", lambda: False)
    found = ask_neural_compressor(tmp_path, 1)
    assert isinstance(found, str)
    assert "neither VNNI nor AMX" in found


def test_a_library_that_fails_is_said_to_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "neural-compressor-pt").mkdir()
    (tmp_path / "neural-compressor-pt" / "torch.py").write_text("raise ImportError('built for another machine')\n")
    monkeypatch.setattr(model_peer, "multiplies_int8_exactly", lambda: True)
    assert ask_neural_compressor(tmp_path, 1) == "not measured: ImportError: built for another machine"


def test_decibels() -> None:
    signal = torch.tensor([3.0, 4.0])
    assert model_peer._decibels(signal, torch.tensor([0.0, 0.05])) == pytest.approx(40.0)
