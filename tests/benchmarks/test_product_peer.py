import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import product_peer
from benchmarks.product_peer import ask_onnxruntime
from benchmarks.speed_peer import ask_module


def test_a_library_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert ask_onnxruntime(None, 1) == "not installed"
    assert ask_onnxruntime(tmp_path, 1) == "not installed"


def test_a_library_that_fails_is_said_to_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "torch.py").write_text("raise ImportError('built for another machine')\n")
    assert ask_onnxruntime(tmp_path, 1) == "not measured: ImportError: built for another machine"


def test_what_a_library_prints_before_its_result_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = subprocess.CompletedProcess([sys.executable], 0, stdout='a warning\n{"version": "1"}\n', stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ran)
    assert ask_module("benchmarks.product_peer", None, []) == {"version": "1"}


@pytest.mark.parametrize("factor", [1.1, torch.nan])
def test_another_product_is_not_timed(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    layer, x = nn.Linear(16, 8, bias=False), torch.randn(4, 16)
    with torch.no_grad():
        monkeypatch.setattr(product_peer, "_run", lambda _, x: layer(x))
        assert set(product_peer._ratios(None, layer, x, layer.weight, 1)) == {"peer", "incref"}
        monkeypatch.setattr(product_peer, "_run", lambda _, x: layer(x) * factor)
        with pytest.raises(ValueError, match="computes another product"):
            product_peer._ratios(None, layer, x, layer.weight, 1)
