from pathlib import Path

import pytest
import torch
from torch import nn

from incref.checkpoints.size import measure_size
from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.errors import LayerError
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec
from incref.workflow.load import load
from incref.workflow.quantize import quantize
from incref.workflow.save import save
from tests.qtensor.test_scale_spec import integers


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24))


def run(prepared: nn.Module) -> None:
    for seed in range(4):
        prepared(torch.randn(32, 64, generator=torch.Generator().manual_seed(seed)))


def test_fields() -> None:
    rtn, gptq = RTNConfig(use_double_quant=True).scheme(), GPTQConfig(use_double_quant=True).scheme()
    assert rtn is not None
    assert gptq is not None
    assert rtn.weight.scales == ScaleSpec(fmt=integers("uint8"), symmetric=False)
    assert gptq.weight.scales == ScaleSpec(fmt=integers("uint8"), symmetric=False, run=ScaleRun.COLUMNS)
    narrow = RTNConfig(
        dtype="nf4",
        use_double_quant=True,
        double_quant_dtype="int6",
        double_quant_use_sym=True,
        double_quant_group_size=8,
    ).scheme()
    assert narrow is not None
    assert narrow.weight.scales == ScaleSpec(fmt=integers("int6"), group_size=8)
    assert str(narrow.weight) == "nf4, groups of 32, scales int6"


@pytest.mark.parametrize("cls", [RTNConfig, GPTQConfig])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "mxfp4"}, "scales of mxfp4 are codes already"),
        ({"double_quant_dtype": "nf4", "double_quant_use_sym": True}, 'double_quant_dtype must be "int"'),
        ({"double_quant_dtype": "foo"}, "double_quant_dtype: no format is called 'foo'"),
        ({"double_quant_bits": 9}, "double_quant_bits: integers have 1 to 8 bits if double_quant_use_sym=False, got 9"),
        ({"double_quant_dtype": "int9"}, "double_quant_dtype: integers have 1 to 8 bits"),
        ({"double_quant_group_size": 0}, "double_quant_group_size must be positive, got 0"),
    ],
)
def test_contradictions(cls: type[BaseConfig], fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(use_double_quant=True, **fields)


@pytest.mark.parametrize("cls", [RTNConfig, GPTQConfig])
@pytest.mark.parametrize("unused", [{}, {"dtype": "fp32"}])
def test_fields_are_checked_that_have_no_effect(cls: type[BaseConfig], unused: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="double_quant_bits: integers have 1 to 8 bits"):
        cls(double_quant_bits=0, **unused)
    with pytest.raises(ValueError, match="group_size must be positive"):
        cls(group_size=0, **unused)
    with pytest.raises(ValueError, match="scale_dtype must be one of"):
        cls(scale_dtype="fp8", **unused)


@pytest.mark.parametrize(
    "config",
    [
        RTNConfig(group_size=8, use_double_quant=True),
        RTNConfig(group_size=8, use_double_quant=True, use_mse_search=True, use_sym=False, group_dim=0),
        GPTQConfig(group_size=8, use_double_quant=True, act_order=True),
        GPTQConfig(dtype="nf4", group_size=8, use_double_quant=True, double_quant_bits=5, static_groups=True),
    ],
    ids=["rtn", "rtn search", "gptq", "gptq static"],
)
def test_models_are_stored_as_small_as_they_say(config: BaseConfig, tmp_path: Path) -> None:
    planned = config.plan(model()).stored_bytes
    after = quantize(model(), config, run)
    assert measure_size(after).weight_bytes == planned
    save(after, tmp_path / "saved")
    loaded, x = load(tmp_path / "saved", model()), torch.randn(4, 64)
    assert torch.equal(loaded(x), after(x))
    assert measure_size(loaded).weight_bytes == planned


def test_groups_of_channels_are_refused() -> None:
    convolutions = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(LayerError, match="its 2 groups of channels would share the steps"):
        GPTQConfig(use_double_quant=True).plan(convolutions)
