import inspect
import math

import pytest

from incref.autotune.sampler import SequentialSampler
from incref.autotune.sensitivity import SensitivitySampler
from incref.autotune.tuning_config import TuningConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.config.tuning_sets import get_all_config_set


def test_names_order_and_defaults_are_those_that_callers_know() -> None:
    parameters = inspect.signature(TuningConfig).parameters
    positional = {name: p.default for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert positional == {
        "config_set": None,
        "sampler": SequentialSampler,
        "tolerable_loss": 0.01,
        "max_trials": 100,
    }
    assert list(positional) == ["config_set", "sampler", "tolerable_loss", "max_trials"]


def test_every_entry_of_a_set_is_expanded() -> None:
    config = TuningConfig([RTNConfig(bits=[4, 8]), {"name": "mx_quant", "w_dtype": ["int8", "fp4"]}, SCHEMES["mxfp4"]])
    assert config.configs() == (
        RTNConfig(bits=4),
        RTNConfig(bits=8),
        MXQuantConfig(w_dtype="int8"),
        MXQuantConfig(w_dtype="fp4"),
        SCHEMES["mxfp4"],
    )


def test_a_set_may_be_one_configuration() -> None:
    assert TuningConfig(RTNConfig(bits=[4, 8])).configs() == (RTNConfig(bits=4), RTNConfig(bits=8))
    assert TuningConfig({"rtn": {"bits": 8}}).configs() == (RTNConfig(bits=8),)


def test_no_set_is_all_defaults() -> None:
    assert TuningConfig().configs() == tuple(one for space in get_all_config_set() for one in space.expand())


def test_a_sampler_is_made_or_given() -> None:
    assert isinstance(TuningConfig().make_sampler(), SequentialSampler)
    sampler = SensitivitySampler()
    assert TuningConfig(sampler=sampler).make_sampler() is sampler


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_trials": 0}, "max_trials must be at least 1, got 0"),
        ({"tolerable_loss": math.nan}, "tolerable_loss must be finite, got nan"),
        ({"time_budget": -1.0}, "time_budget must be seconds, at least 0, or None, got -1.0"),
        ({"time_budget": math.nan}, "time_budget must be seconds"),
        ({"config_set": []}, "config_set must have a configuration, got an empty list"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TuningConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"config_set": ["rtn"]},
            "config_set must be configurations such as RTNConfig, LayerSchemes or dicts, got 'rtn'",
        ),
        ({"sampler": "sequential"}, "sampler must be a Sampler, such as SequentialSampler, got 'sequential'"),
        ({"sampler": RTNConfig}, "sampler must be a Sampler"),
    ],
)
def test_other_types_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TuningConfig(**fields)
