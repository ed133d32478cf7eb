"""What a device gave, bit for bit: the models of its rows compute it, and the report says so."""

import json
from pathlib import Path

import pytest
import torch

from conformance.record import load
from conformance.tensor_core_probe import _plain
from conformance.tensor_core_record import KIND, VECTORS, main, read_vectors, vectors_of
from incref.conformance.judge import assert_same_bits
from incref.numerics.accumulate.evaluate import accumulate_codes
from incref.numerics.accumulate.models import Accumulator
from incref.numerics.accumulate.table import MACHINES, Evidence, MachineRow

MEASURED = [row for row in MACHINES.values() if row.evidence is Evidence.MEASURED]
MODELS: dict[str, Accumulator | None] = {name: row.model for row in MACHINES.values() for name in row.measured}
FILES = sorted(VECTORS.glob("*.safetensors"))


def _without_nones(described: object) -> object:
    """What has been added to the models since a report was made is None in them."""
    if not isinstance(described, dict):
        return described
    return {key: _without_nones(item) for key, item in described.items() if item is not None}


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row.name)
def test_measured_rows_are_what_the_report_says(row: MachineRow) -> None:
    for report in load(KIND).values():
        for name in row.measured:
            entry = report["machines"][name]
            assert _without_nones(entry["model"]) == _without_nones(_plain(row.model))
            assert all(replay["equal"] == replay["outputs"] > 4000 for replay in entry["replays"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_models_give_the_bits_of_the_device(path: Path) -> None:
    vectors = read_vectors(path)
    assert vectors
    for machine, (a, b, got, a_fmt, b_fmt) in vectors.items():
        model = MODELS[machine]
        assert model is not None
        assert_same_bits(accumulate_codes(a, b, a_fmt, b_fmt, model), got, note=machine)


def test_every_measured_model_has_vectors() -> None:
    assert FILES
    machines = set().union(*(read_vectors(path) for path in FILES))
    missing = {row.name for row in MACHINES.values() if row.measured and not machines & set(row.measured)}
    assert missing == {"hopper_wgmma_tf32"}


def test_a_report_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.tensor_core_record.VECTORS", tmp_path / "vectors")
    stored = {}
    monkeypatch.setattr(
        "conformance.tensor_core_record.store", lambda kind, key, report: stored.update({(kind, key): report})
    )
    machine = "tl.dot float8_e5m2 max_num_imprecise_acc=None"
    sample = {"a": torch.ones(20, 32), "b": torch.full((20, 32), 2.0), "got": torch.full((20, 20), 64.0)}
    (tmp_path / "probe.json").write_text(json.dumps({"environment": {"device": "A Card"}, "machines": {}}))
    torch.save({f"{machine}: x": sample, "other: x": sample}, tmp_path / "samples.pt")
    assert main([str(tmp_path)]) == 0
    assert list(stored) == [(KIND, "A Card")]
    a, b, got, *_ = read_vectors(tmp_path / "vectors" / "a_card.safetensors")[machine]
    assert (a.shape, int(a[0, 0]), int(b[0, 0])) == ((20, 32), 0x3C, 0x40)
    assert_same_bits(got, torch.full((20, 20), 64.0))
    assert set(vectors_of({"other: x": sample})) == set()
