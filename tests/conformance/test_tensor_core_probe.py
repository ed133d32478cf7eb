"""The program finds the models that stand in for a GPU, and writes down what it found and what went wrong."""

import json
from pathlib import Path

import pytest
import torch

from conformance import tensor_core_probe
from conformance.accumulators.machine import ModelMachine
from conformance.tensor_core_probe import E4M3, Plan, int8_overflow, main
from incref.numerics.accumulate.models import Aligned


def test_a_dry_run_finds_what_was_planted(tmp_path: Path) -> None:
    assert main(["--dry-run", "--out", str(tmp_path), "--only", "slow"]) == 0
    report = json.loads((tmp_path / "probe.json").read_text())
    assert list(report["machines"]) == ["slow"]
    found = report["machines"]["slow"]
    assert (found["model"]["kind"], found["model"]["every"], found["model"]["inner"]["group"]) == ("Promoted", 128, 32)
    assert all(seen["equal"] == seen["outputs"] == 64 * 64 for seen in found["replays"])
    assert all(bits["machine"] == bits["model"] for bits in found["specials"].values())
    assert list(torch.load(tmp_path / "samples.pt")) == ["slow: normal 64x64x512"]


def test_what_raises_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModelMachine):
        def rows(self, *_: object) -> torch.Tensor:
            raise RuntimeError("no such instruction")

    model = Aligned(group=32, fraction_bits=13, result_bits=13)
    plan = Plan(machine=lambda: Broken(name="b", a_fmt=E4M3, b_fmt=E4M3, model=model))
    monkeypatch.setattr(tensor_core_probe, "dry_plans", lambda: {"broken": plan})
    assert main(["--dry-run", "--out", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "probe.json").read_text())
    assert "no such instruction" in report["machines"]["broken"]["error"]


def test_int8_sums_reach_beyond_int32() -> None:
    wrapped = int8_overflow(lambda a, b: (a.double() @ b.double().T).long().to(torch.int32))
    assert list(wrapped.values()) == [-(2**31), -(2**31) + 1, -127 * 128 * 2**17]
    clamped = int8_overflow(lambda a, b: (a.double() @ b.double().T).clamp(-(2.0**31), 2.0**31 - 1).to(torch.int32))
    assert list(clamped.values()) == [2**31 - 1, 2**31 - 1, -127 * 128 * 2**17]
