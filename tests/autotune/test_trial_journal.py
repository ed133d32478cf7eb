from pathlib import Path

import pytest
import torch
from torch import nn

from incref.autotune.metric import Metric
from incref.autotune.trial import Measurement
from incref.autotune.trial_journal import TrialJournal, model_digest
from incref.checkpoints.size import ModelSize
from incref.config.schemes import SCHEMES

SIZE = ModelSize(weight_elements=1, weight_bytes=1, elements=1, bytes=1)
DONE = Measurement(values=(0.5,), size=SIZE)


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def test_a_measurement_is_found_under_its_schemes(tmp_path: Path) -> None:
    TrialJournal(tmp_path, model(), (Metric(len),)).keep({"0": SCHEMES["int8"]}, DONE)
    journal = TrialJournal(str(tmp_path), model(), (Metric(len),))
    assert journal.find({"0": SCHEMES["int8"]}) == DONE
    assert journal.find({"0": SCHEMES["mxfp4"]}) is None
    assert journal.find({"1": SCHEMES["int8"]}) is None
    assert journal.find({}) is None


@pytest.mark.parametrize(
    ("other", "metrics"),
    [(model(1), (Metric(len),)), (model(), (Metric(abs),)), (model(), (Metric(len), Metric(len)))],
)
def test_another_model_or_metric_finds_nothing(tmp_path: Path, other: nn.Module, metrics: tuple[Metric, ...]) -> None:
    TrialJournal(tmp_path, model(), (Metric(len),)).keep({}, DONE)
    assert TrialJournal(tmp_path, other, metrics).find({}) is None


def test_a_weight_or_direction_may_change(tmp_path: Path) -> None:
    TrialJournal(tmp_path, model(), (Metric(len),)).keep({}, DONE)
    assert TrialJournal(tmp_path, model(), (Metric(len, weight=2.0, higher_is_better=False),)).find({}) == DONE


def test_a_failure_counts_as_not_there(tmp_path: Path) -> None:
    journal = TrialJournal(tmp_path, model(), (Metric(len),))
    journal.keep({}, Measurement(failure="ValueError: no"))
    assert journal.find({}) is None
    journal.keep({}, DONE)
    assert journal.find({}) == DONE


def test_the_digest_is_of_structure_and_values() -> None:
    first = model()
    assert model_digest(first) == model_digest(model())
    changed = model()
    changed[1].running_mean[0] = 1e-30
    digests = {model_digest(first), model_digest(changed), model_digest(model().to(torch.bfloat16))}
    assert len(digests | {model_digest(nn.Sequential(*model(), nn.ReLU()))}) == 4
