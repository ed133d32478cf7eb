"""The configurations for 8-bit integers."""

import pytest
from torch import nn

import incref
from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.int8_dynamic import DynamicQuantConfig, get_default_dynamic_config
from incref.config.int8_static import INT8StaticQuantConfig, StaticQuantConfig, get_default_static_config
from incref.config.range_rule import RangeMethod, RangeRule
from incref.config.smooth_quant import SmoothQuantConfig, get_default_sq_config
from incref.config.smoothing import SharedAlpha, Smoothing
from incref.config.table import config_from_dict
from incref.errors import UnsupportedError
from incref.formats import SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel

BOTH = [INT8StaticQuantConfig, DynamicQuantConfig]


def test_the_factory() -> None:
    assert type(StaticQuantConfig()) is INT8StaticQuantConfig
    assert StaticQuantConfig(act_sym=True) == INT8StaticQuantConfig(act_sym=True)
    assert StaticQuantConfig(fp8_config="E5M2") == FP8Config(fp8_config="E5M2")
    with pytest.raises(TypeError, match="act_symmetric"):
        StaticQuantConfig(act_symmetric=True)


def test_default_static() -> None:
    config = get_default_static_config()
    assert config == INT8StaticQuantConfig()
    scheme = config.scheme()
    assert scheme is not None
    assert scheme.activation is not None
    assert scheme.is_static
    assert scheme.input_range == RangeRule(method=RangeMethod.MSE)
    assert scheme.weight.fmt.name == "int8"
    assert scheme.weight.granularity == per_channel()
    assert scheme.weight.symmetric_scale is SymmetricScale.SPAN
    assert (scheme.activation.fmt.name, scheme.activation.granularity) == ("uint8", PER_TENSOR)
    assert str(scheme) == "int8, one scale a row, input uint8, static"


def test_default_dynamic() -> None:
    scheme = get_default_dynamic_config().scheme()
    assert scheme is not None
    assert scheme.activation is not None
    assert not scheme.is_static
    assert (scheme.weight.granularity, scheme.activation.granularity) == (PER_TENSOR, PER_TENSOR)
    scheme = DynamicQuantConfig(act_granularity="per_token", act_sym=True).scheme()
    assert scheme is not None
    assert scheme.activation is not None
    assert (scheme.activation.fmt.name, scheme.activation.granularity) == ("int8", PER_TOKEN)


def test_convolutions_are_static_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4))
    schemes = INT8StaticQuantConfig().plan(model).schemes
    assert schemes["0"].weight.granularity == per_channel(0, ndim=4)
    assert list(DynamicQuantConfig().plan(model).schemes) == ["1"]


@pytest.mark.parametrize("algo", [method.value for method in RangeMethod])
def test_every_range(algo: str) -> None:
    scheme = INT8StaticQuantConfig(act_algo=algo, act_percentile=99.0).scheme()
    assert scheme is not None
    assert scheme.input_range == RangeRule(method=RangeMethod(algo), percentile=99.0)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("w_dtype", "int4"),
        ("w_granularity", "per_group"),
        ("w_algo", "kl"),
        ("act_dtype", "fp8"),
        ("act_granularity", "per_channel"),
        ("act_algo", "best"),
    ],
)
def test_other_values_are_refused(cls: type[BaseConfig], field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be one of .*, got {value!r}"):
        cls(**{field: value})


def test_fields_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="act_granularity must be one of per_tensor, got 'per_token'"):
        INT8StaticQuantConfig(act_granularity="per_token")
    with pytest.raises(TypeError, match="act_sym must be bool, got 1"):
        INT8StaticQuantConfig(act_sym=1)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="percentile must be in"):
        INT8StaticQuantConfig(act_percentile=0.0)
    with pytest.raises(ValueError, match="excluded_precisions is a list of fp16, bf16, got"):
        INT8StaticQuantConfig(excluded_precisions=["int4"])
    with pytest.raises(UnsupportedError, match="leave it out"):
        INT8StaticQuantConfig(model_info=[("fc", nn.Linear)])  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("cls", BOTH)
def test_other_dtypes_of_weights(cls: type[BaseConfig]) -> None:
    assert cls(w_dtype="fp32").scheme() is None
    scheme = cls(w_dtype="bf16").scheme()
    assert scheme is not None
    assert scheme.weight.fmt.name == "bfloat16"
    assert scheme.activation is None


@pytest.mark.parametrize("cls", BOTH)
def test_the_search_space(cls: type[BaseConfig]) -> None:
    found = [(one.act_sym, one.act_algo) for one in cls.get_config_set_for_tuning().expand()]  # type: ignore[attr-defined]  # both have them
    assert found == [(True, "kl"), (True, "minmax"), (False, "kl"), (False, "minmax")]


@pytest.mark.parametrize("cls", BOTH)
def test_files(cls: type[BaseConfig]) -> None:
    config = cls(w_sym=False, act_sym=True).set_local("fc", cls(w_dtype="fp32"))
    assert config_from_dict(config.to_dict()) == config


def test_smooth_quant() -> None:
    scheme = get_default_sq_config().scheme()
    assert scheme is not None
    assert scheme.smoothing == Smoothing()
    assert str(scheme) == "int8, one scale a row, input uint8, static, smoothed by 0.5"
    auto = SmoothQuantConfig(alpha="auto", folding=True, shared_criterion="mean").scheme()
    assert auto is not None
    assert auto.smoothing == Smoothing(
        alphas=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        shared_alpha=SharedAlpha.MEAN,
        is_shared=True,
        folds=True,
    )
    some = SmoothQuantConfig(alpha="auto", auto_alpha_args={"alpha_min": 0.3, "alpha_max": 0.75, "alpha_step": 0.2})
    scheme = some.scheme()
    assert scheme is not None
    assert scheme.smoothing is not None
    assert scheme.smoothing.alphas == (0.3, 0.5, 0.7)
    assert config_from_dict(some.to_dict()) == some


def test_smooth_quant_spaces() -> None:
    assert [one.alpha for one in SmoothQuantConfig(alpha=[0.25, "auto"]).expand()] == [0.25, "auto"]
    space = SmoothQuantConfig.get_config_set_for_tuning()
    assert [one.alpha for one in space.expand()] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert config_from_dict(space.to_dict()) == space


def test_smooth_quant_refuses() -> None:
    with pytest.raises(TypeError, match="alpha must be a number or \"auto\", got 'best'"):
        SmoothQuantConfig(alpha="best")
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        SmoothQuantConfig(alpha=1.5)
    with pytest.raises(ValueError, match=r"alpha goes from alpha_min up to alpha_max, got 0\.5 to 0\.25 by 0\.1"):
        SmoothQuantConfig(alpha_min=0.5, alpha_max=0.25)
    for name in ("alpha", "init_alpha", "alpha_min", "alpha_max", "alpha_step"):
        for value in (-0.5, 1.5, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, got {value}"):
                SmoothQuantConfig(**{name: value})  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="alpha must have a value to choose, got an empty list"):
        SmoothQuantConfig(alpha=[])
    with pytest.raises(ValueError, match="shared_criterion must be one of max, min, mean"):
        SmoothQuantConfig(shared_criterion="least")
    with pytest.raises(ValueError, match="auto_alpha_args is a dict of"):
        SmoothQuantConfig(auto_alpha_args={"alpha": 0.5})
    with pytest.raises(ValueError, match=r"auto_alpha_args is a dict of .*, got 3"):
        SmoothQuantConfig(auto_alpha_args=3)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(UnsupportedError, match="set do_blockwise=False"):
        SmoothQuantConfig(do_blockwise=True)


def test_public_names() -> None:
    assert incref.StaticQuantConfig is StaticQuantConfig
    assert incref.get_default_dynamic_config() == DynamicQuantConfig()
