import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import speed, speed_int8
from benchmarks.speed_result import Better, Judged, Ratio, ratio_of, speedup_of
from benchmarks.timing import Times
from incref_kernels.cpu import BACKEND


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts that were measured, of two that give a row each."""
    measured: list[str] = []

    def part(name: str, ratio: float) -> object:
        def run(_: object) -> dict[str, object]:
            measured.append(name)
            return {"judged": [judged(Better.LESS, ratio)]}

        return run

    monkeypatch.setattr(speed, "PARTS", {"imports": part("imports", 1.5), "int8": part("int8", 2.5)})
    return measured


def judged(better: Better, ratio: float) -> Judged:
    found = Ratio(ratio=ratio, least=ratio, greatest=ratio)
    return Judged(work="a copy", base="copy_", better=better, bar=2.0, stretch=1.2, found=found)


def test_a_bar_is_the_most_of_a_time_and_the_least_of_a_gain() -> None:
    assert [judged(Better.LESS, ratio).as_json()["is_met"] for ratio in (2.0, 2.1)] == [True, False]
    assert [judged(Better.MORE, ratio).as_json()["is_met"] for ratio in (2.0, 1.9)] == [True, False]


def test_the_spread_lies_about_the_median() -> None:
    ours, theirs = Times(median=2.0, least=1.0, greatest=4.0), Times(median=4.0, least=3.0, greatest=5.0)
    assert ratio_of(ours, theirs) == Ratio(ratio=0.5, least=0.25, greatest=1.0)
    assert speedup_of(ours, theirs) == Ratio(ratio=2.0, least=1.0, greatest=4.0)


def test_integers_are_not_measured_where_they_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_int8, "multiplies_int8_exactly", lambda: False)
    rows = [row.as_json() for row in speed_int8.int8_rows(1)]
    assert len(rows) == 4
    assert all("ratio" not in row and "neither VNNI nor AMX" in str(row["reason"]) for row in rows)


@pytest.mark.filterwarnings("ignore:this processor has no VNNI")
def test_an_encoder_is_quantized_and_not_left_as_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    monkeypatch.setattr(torch, "compile", lambda model: model)
    layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = (speed_int8.compiled_model(encoder, x)(x) - encoder(x)).norm() / encoder(x).norm()
    assert 0 < float(error) < 0.1


@pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite")
def test_runs_are_added_to_those_before(monkeypatch: pytest.MonkeyPatch, calls: list[str], tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    monkeypatch.setattr(speed, "_is_right", lambda: True)
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "imports", "--json", str(path)])
    assert speed.main() == 0
    monkeypatch.setattr(sys, "argv", ["speed", "--json", str(path)])
    assert speed.main() == 2
    assert calls == ["imports", "imports", "int8"]
    stored = json.loads(path.read_text())
    assert stored["version"] == speed.VERSION
    assert [list(run["parts"]) for run in stored["runs"]] == [["imports"], ["imports", "int8"]]


@pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite")
def test_nothing_is_measured_where_kernels_are_wrong(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "speed.json"
    monkeypatch.setattr(speed, "_is_right", lambda: False)
    monkeypatch.setattr(sys, "argv", ["speed", "--json", str(path)])
    assert speed.main() == 1
    assert calls == []
    assert not path.exists()
