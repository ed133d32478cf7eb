from incref.autotune.metric import Metric
from incref.autotune.objective import Objective
from incref.autotune.table import trial_table, verdict
from incref.autotune.trial import Measurement, Trial
from incref.checkpoints.size import ModelSize
from incref.config.rtn import RTNConfig

ACCURACY = Metric(len, name="accuracy")


def measured(value: float, size: int) -> Measurement:
    model_size = ModelSize(weight_elements=0, weight_bytes=0, elements=250_000, bytes=size)
    return Measurement(values=(value,), size=model_size, quantize_seconds=1.25, eval_seconds=0.5)


BASELINE = measured(0.8125, 1_000_000)
LOST = Trial(number=1, config=RTNConfig(), measured=measured(0.5, 125_000), score=0.5, is_met=False, is_recalled=True)
FAILED = Trial(
    number=2, config=RTNConfig(bits=2), measured=Measurement(failure="ValueError: no\nmore"), score=None, is_met=False
)
MET = Trial(number=3, config=RTNConfig(bits=8), measured=measured(0.8, 250_000), score=0.8, is_met=True)


def objective(*, is_relative: bool = True) -> Objective:
    return Objective(metrics=(ACCURACY,), baseline=(0.8125,), tolerable_loss=0.05, is_relative=is_relative)


def test_every_trial_has_a_line() -> None:
    shown = trial_table((LOST, FAILED, MET), BASELINE, MET, objective())
    assert shown.splitlines() == [
        "    configuration      accuracy     MB   bits  seconds",
        "    float model          0.8125  1.000  32.00      1.8",
        "1   RTNConfig()             0.5  0.125   4.00      1.8  not met, from the journal",
        "2   RTNConfig(bits=2)                                   failed: ValueError: no",
        "3*  RTNConfig(bits=8)       0.8  0.250   8.00      1.8  met",
        "A loss of 0.05 (relative) was tolerable, and trial 3 meets that: accuracy 0.8 (float model: 0.8125).",
    ]


def test_it_is_said_that_the_tolerance_was_not_met() -> None:
    assert verdict(LOST, objective(is_relative=False)) == (
        "A loss of 0.05 (absolute) was tolerable, and NO trial meets that; the best is trial 1: "
        "accuracy 0.5 (float model: 0.8125)."
    )
