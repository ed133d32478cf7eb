"""Inputs on which Neural Compressor 3.10 was seen to give wrong numbers, or to raise."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from incref import (
    FP8Config,
    GPTQConfig,
    INT8StaticQuantConfig,
    MXQuantConfig,
    RTNConfig,
    TuningConfig,
    autotune,
    convert,
    prepare,
    quantize,
)
from incref.algorithms.maxabs import scale_of
from incref.config.base import BaseConfig
from incref.config.fp8_methods import SCALE_METHODS
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.formats import FORMATS, FloatFormat
from incref.modules.linear import QuantLinear


def _linear(weight: Tensor) -> nn.Sequential:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return nn.Sequential(layer)


def _weight(model: nn.Module) -> Tensor:
    layer = model.get_submodule("0")
    assert isinstance(layer, QuantLinear)
    return layer.weight


def _calibrated(model: nn.Module, config: BaseConfig, x: Tensor) -> Tensor:
    prepared = prepare(model, config, inplace=False)
    prepared(x)
    return _weight(convert(prepared))


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_8_bit_weights_with_zero_points_do_not_wrap() -> None:
    for weight in (torch.rand(16, 64, generator=torch.Generator().manual_seed(0)), _normal(16, 64)):
        x = _normal(256, 64)
        rounded = _calibrated(_linear(weight), RTNConfig(bits=8, use_sym=False, group_size=-1), x)
        spans = weight.amax(1).clamp(min=0) - weight.amin(1).clamp(max=0)
        # Half a step for the weight, half a step for the zero point.
        assert ((rounded - weight).abs() <= spans[:, None] / 255).all()
        made = _calibrated(_linear(weight), GPTQConfig(bits=8, use_sym=False, group_size=-1), x)
        assert (x @ (made - weight).T).norm() < (x @ (rounded - weight).T).norm()


@pytest.mark.parametrize("act_order", [False, True])
def test_static_groups_have_all_their_scales(*, act_order: bool) -> None:
    weight = _normal(8, 128) * torch.logspace(-2, 2, 4).repeat_interleave(32)
    prepared = prepare(
        _linear(weight), GPTQConfig(static_groups=True, act_order=act_order, group_size=32), inplace=False
    )
    prepared(_normal(512, 128))
    layer = convert(prepared).get_submodule("0")
    assert isinstance(layer, QuantLinear)
    assert torch.equal(layer.qweight.scale, 2 * weight.view(8, 4, 32).abs().amax(2) / 15)


def test_a_group_without_negative_weights_keeps_its_range() -> None:
    weight = torch.linspace(0, 0.997, 8).repeat(4, 1)
    made = _calibrated(_linear(weight), GPTQConfig(group_size=8), torch.eye(8))
    assert float(made.max()) > 0.997 - 0.997 / 15


def test_gptq_takes_a_model_that_has_no_name() -> None:
    assert _calibrated(_linear(_normal(8, 32)), GPTQConfig(), _normal(64, 32)).shape == (8, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_exponent_of_a_block_is_that_of_its_largest_magnitude(dtype: torch.dtype) -> None:
    for k in range(-10, 15):
        power = torch.tensor(2.0**k, dtype=dtype)
        below = (
            torch.nextafter(power, torch.zeros_like(power))
            if dtype is torch.float32
            else power * (1 - torch.finfo(dtype).eps / 2)
        )
        assert below < power
        weight = torch.zeros(1, 32, dtype=dtype)
        weight[0, 0] = below
        config = MXQuantConfig(w_dtype="fp4", weight_only=True, out_dtype="float32", round_method="even")
        # The exponent is k - 1, and 6 * 2 ** (k - 1 - 2) the largest value, which all above 5/6 of 2 ** k saturate to.
        assert float(_weight(quantize(_linear(weight), config))[0, 0]) == 6 * 2.0 ** (k - 3)


def test_255_in_bfloat16_becomes_192_in_mxfp4() -> None:
    weight = torch.full((1, 32), 255.0, dtype=torch.bfloat16)
    made = _weight(quantize(_linear(weight), MXQuantConfig(w_dtype="fp4", weight_only=True)))
    assert made.unique().tolist() == [192.0]


@pytest.mark.parametrize("use_mse_search", [False, True])
def test_groups_along_the_output_features(*, use_mse_search: bool) -> None:
    weight = _normal(32, 64)
    made = _weight(quantize(_linear(weight), RTNConfig(group_dim=0, group_size=32, use_mse_search=use_mse_search)))
    other = _weight(quantize(_linear(weight.T), RTNConfig(group_size=32, use_mse_search=use_mse_search)))
    assert torch.equal(made, other.T)


@pytest.mark.parametrize("magnitude", [1e6, 1e-6, 1e-9])
def test_scales_of_large_and_small_weights(magnitude: float) -> None:
    weight = _normal(8, 64) * magnitude
    made = _weight(quantize(_linear(weight), RTNConfig(bits=8, group_size=-1)))
    # Half a step, and a rounding each of the scale, of up to 127 steps and of the product.
    bound = (0.5 + 3 * 127 * 2.0**-24) / 127
    assert ((made - weight).abs() <= bound * weight.abs().amax(1, keepdim=True)).all()


@pytest.mark.parametrize("baseline", [0.0, -2.0])
def test_autotune_with_a_baseline_of_zero_or_less(baseline: float) -> None:
    values = iter([baseline, baseline - 0.5, baseline - 0.01 * abs(baseline)])
    model = _linear(_normal(8, 32))
    best = autotune(model, TuningConfig([RTNConfig(bits=2), RTNConfig(bits=8)]), lambda _: next(values))
    assert str(best.get_submodule("0").qweight.spec.fmt.name) == "int8"  # type: ignore[union-attr]


@pytest.mark.parametrize("method", SCALE_METHODS)
@pytest.mark.parametrize("fmt", ["E4M3", "E5M2"])
def test_every_fp8_scale_method_runs_without_a_gaudi(method: str, fmt: str) -> None:
    weight, x = _normal(8, 32), _normal(64, 32)
    made = _calibrated(_linear(weight), FP8Config(fp8_config=fmt, scale_method=method), x)
    # Half a unit in the last place: 4 bits of precision in E4M3 with the hidden one, 3 in E5M2.
    assert ((made - weight).abs() <= weight.abs().amax() * 2.0 ** (-4 if fmt == "E4M3" else -3)).all()


def test_powers_of_two_are_exact_ceilings_for_every_normal_bfloat16() -> None:
    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    method = MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=1.0)
    bits = torch.arange(0x0C80, 0x7F80, 7, dtype=torch.int16)
    for amax in bits.view(torch.bfloat16).float():
        scale = float(scale_of(amax, fmt, method))
        exact = float(amax) / 448
        assert math.frexp(scale)[0] == 0.5
        assert scale / 2 < exact * (1 + 2.0**-23)
        assert exact * (1 - 2.0**-23) <= scale


def test_one_bit_has_two_values_that_span_the_weights() -> None:
    weight = _normal(4, 32)
    made = _weight(quantize(_linear(weight), RTNConfig(bits=1, use_sym=False, group_size=-1)))
    assert ((made - weight).abs() <= (weight.amax(1) - weight.amin(1))[:, None]).all()


def test_the_weights_of_the_model_that_came_in_are_left_alone() -> None:
    weight = _normal(8, 32)
    model = _linear(weight)
    kept = model[0].weight
    quantize(model, RTNConfig())
    assert torch.equal(kept, weight)


def test_a_name_speaks_of_no_longer_name() -> None:
    model = nn.ModuleDict({"fc1": nn.Linear(32, 8), "fc10": nn.Linear(32, 8)})
    plan = RTNConfig().set_local("fc1", RTNConfig(dtype="fp32")).plan(model)
    assert list(plan.schemes) == ["fc10"]


def test_a_configuration_is_read_from_its_file_and_not_changed_by_use(tmp_path: Path) -> None:
    config = RTNConfig(bits=8).set_local("0", RTNConfig(bits=2))
    before = copy.deepcopy(config)
    quantize(_linear(_normal(8, 32)), config)
    assert config == before
    config.to_json_file(tmp_path / "config.json")
    assert RTNConfig.from_json_file(tmp_path / "config.json") == config


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="bit"):
        RTNConfig(bit=8)  # type: ignore[call-arg]


def test_gptq_takes_the_conv1d_of_transformers() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    layer = conv1d(32, 64)
    x = _normal(256, 64)
    model = nn.Sequential(layer)
    wanted = model(x)
    prepared = prepare(model, GPTQConfig(bits=8, group_size=-1), inplace=False)
    prepared(x)
    error = (convert(prepared)(x) - wanted).norm()
    rounded = (quantize(model, RTNConfig(bits=8, group_size=-1))(x) - wanted).norm()
    assert 0 < error < rounded


def test_static_weights_with_zero_points() -> None:
    weight = torch.rand(16, 64, generator=torch.Generator().manual_seed(0))
    model, x = _linear(weight), _normal(256, 64)
    prepared = prepare(model, INT8StaticQuantConfig(w_sym=False), inplace=False)
    prepared(x)
    y, wanted = convert(prepared)(x), model(x)
    step = (x.amax() - x.amin()) / 255
    w_step = weight.amax(1) / 255
    # A zero point is rounded, too: a whole step at the ends of the range, instead of half of one.
    bound = x.abs().sum(1, keepdim=True) * w_step + weight.sum(1) * step + x.shape[1] * w_step * step
    assert ((y - wanted).abs() <= bound).all()
