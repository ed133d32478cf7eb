from pathlib import Path

import pytest
import torch
from torch import nn

from incref import MixedPrecisionConfig, RTNConfig, load, quantize, save
from incref.errors import CheckpointError, LayerError
from incref.modules.cast import CastConv1d, CastLinear
from incref.modules.linear import QuantLinear


def _model() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 4)).eval()


def test_a_mixed_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = _model()
    config = RTNConfig() + MixedPrecisionConfig(dtype="bf16", white_list=["0", "3"])
    quantized = quantize(model, config, inplace=False)
    assert [type(quantized[i]) for i in (0, 2, 3)] == [CastConv1d, QuantLinear, CastLinear]  # type: ignore[index]
    x = torch.randn(2, 2, 8)
    save(quantized, tmp_path / "saved")
    loaded = load(tmp_path / "saved", original_model=model)
    assert torch.equal(loaded(x), quantized(x))
    assert loaded[3].weight.dtype is torch.bfloat16  # type: ignore[index, union-attr]
    with pytest.raises(CheckpointError, match=r"3 can't be a Tanh in bfloat16; pass the float model"):
        load(tmp_path / "saved", original_model=nn.Sequential(*list(model)[:3], nn.Tanh()))  # type: ignore[call-overload]


def test_a_weight_beyond_the_range_names_its_layer() -> None:
    model = _model()
    model[2].weight.data[0, 0] = 1e6  # type: ignore[index, union-attr]
    with pytest.raises(LayerError, match="2: its weight has magnitudes up to 1e"):
        quantize(model, MixedPrecisionConfig())
