"""SmoothQuant on models."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.smooth_quant import SmoothQuantConfig
from incref.errors import CalibrationWarning
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.prepare import prepare
from incref.workflow.quantize import quantize
from incref.workflow.record import record_calls
from incref.workflow.save import save

WIDTH = 32


class Block(nn.Module):
    """Layers that one norm feeds, and one that nothing but an operation does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.gate, self.up = nn.Linear(WIDTH, 48), nn.Linear(WIDTH, 48)
        self.down = nn.Linear(48, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        y: Tensor = self.down(torch.sigmoid(self.gate(h)) * self.up(h)) + x
        return y


def block() -> Block:
    torch.manual_seed(0)
    made = Block()
    with torch.no_grad():
        # Two features are far larger than all others, as in language models.
        made.norm.weight.uniform_(0.5, 1.5)
        made.norm.weight[:2] *= 60
        made.norm.bias.normal_()
    return made


BATCHES = [torch.randn(4, 8, WIDTH, generator=torch.Generator().manual_seed(i)) for i in range(3)]


@torch.no_grad()
def calibrate(model: nn.Module) -> None:
    for batch in BATCHES:
        model(batch)


@torch.no_grad()
def error(config: INT8StaticQuantConfig | SmoothQuantConfig) -> float:
    before = block()
    after = quantize(copy.deepcopy(before), config, calibrate)
    x = BATCHES[0]
    return float((after(x) - before(x)).norm() / (before(x) - x).norm())


def assert_rounded(layer: QuantLinear, weight: Tensor) -> None:
    """Check that a layer has `weight`, but for half a step of each row and three roundings of up to 127 steps."""
    step = layer.qweight.scale
    assert step is not None
    assert ((layer.weight - weight).abs() <= (0.5 + 3 * 127 * 2.0**-24) * step).all()


FOLDED = SmoothQuantConfig(folding=True).set_local("down", SmoothQuantConfig())


@torch.no_grad()
def test_scales_are_those_of_the_paper() -> None:
    before = block()
    after = quantize(copy.deepcopy(before), SmoothQuantConfig(alpha=0.75), calibrate)
    assert isinstance(after, Block)
    gate = after.gate
    assert isinstance(gate, QuantLinear)
    h = before.norm(torch.cat(BATCHES)).flatten(0, -2)
    s = (h.abs().amax(0).double() ** 0.75 / before.gate.weight.abs().amax(0).double() ** 0.25).float()
    assert gate.input_factor is not None
    assert torch.allclose(gate.input_factor, 1 / s, rtol=1e-6, atol=0)
    smoothed = h * gate.input_factor
    assert gate.input_scale is not None
    assert torch.equal(gate.input_scale, (smoothed.max() - smoothed.min()) / 255)
    want = (before.gate.weight * s).abs().amax(1, keepdim=True) / 127.5
    assert torch.allclose(gate.qweight.scale, want, rtol=1e-6, atol=0)


def test_smoothing_helps_where_there_are_outliers() -> None:
    plain = error(INT8StaticQuantConfig(act_algo="minmax"))
    assert error(SmoothQuantConfig()) < plain / 2
    assert error(FOLDED) < plain / 2
    fixed = min(error(SmoothQuantConfig(alpha=n / 4)) for n in range(5))
    # Each layer chooses for its own output, so that the model can be a little worse than by one alpha for all.
    assert error(SmoothQuantConfig(alpha="auto")) < fixed * 1.05


@torch.no_grad()
def test_folding_leaves_no_factor_behind() -> None:
    before = block()
    after = quantize(copy.deepcopy(before), FOLDED, calibrate)
    assert isinstance(after, Block)
    assert isinstance(after.gate, QuantLinear)
    assert isinstance(after.up, QuantLinear)
    assert isinstance(after.down, QuantLinear)
    assert (after.gate.input_factor, after.up.input_factor) == (None, None)
    assert after.down.input_factor is not None
    s = before.norm.weight / after.norm.weight
    assert torch.allclose(before.norm.bias / after.norm.bias, s)
    w = torch.maximum(before.gate.weight.abs().amax(0), before.up.weight.abs().amax(0))
    h = before.norm(torch.cat(BATCHES)).flatten(0, -2).abs().amax(0)
    assert torch.allclose(s, (h / w).sqrt())
    assert_rounded(after.up, before.up.weight * s)


def test_sharing_is_an_option_without_folding() -> None:
    for shares in (True, False):
        after = quantize(block(), SmoothQuantConfig(scale_sharing=shares), calibrate)
        assert isinstance(after, Block)
        factors = [after.gate.input_factor, after.up.input_factor]
        assert all(isinstance(factor, Tensor) for factor in factors)
        assert torch.equal(*factors) == shares  # type: ignore[arg-type]  # they are tensors


def test_what_cant_be_folded_is_said() -> None:
    with pytest.warns(CalibrationWarning, match="no norm feeds down alone, so that their scales can't be folded"):
        after = quantize(block(), SmoothQuantConfig(folding=True), calibrate)
    assert isinstance(after, Block)
    assert isinstance(after.down, QuantLinear)
    plain = quantize(block(), INT8StaticQuantConfig(act_algo="minmax"), calibrate)
    assert isinstance(plain, Block)
    assert torch.equal(after.down.qweight.codes, plain.down.qweight.codes)  # type: ignore[union-attr]  # it is quantized too
    assert after.down.input_scale == plain.down.input_scale  # type: ignore[operator]  # likewise
    with pytest.warns(CalibrationWarning, match="no norm feeds gate alone"):
        quantize(block(), SmoothQuantConfig(folding=True, white_list=["gate"]), calibrate)


@pytest.mark.parametrize("config", [SmoothQuantConfig(), FOLDED, SmoothQuantConfig(act_algo="mse")], ids=str)
@torch.no_grad()
def test_saved_and_calibrated_by_recorded_calls(config: SmoothQuantConfig, tmp_path: Path) -> None:
    before = block()
    weights = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    prepared = prepare(copy.deepcopy(before), config)
    calibrate(prepared)
    copied = convert(prepared, inplace=False)
    got = copied(BATCHES[0])
    assert torch.equal(convert(prepared)(BATCHES[0]), got)
    recorded = convert(before, config, inplace=False, calls=record_calls(before, calibrate))
    assert torch.equal(recorded(BATCHES[0]), got)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before.state_dict().items())
    save(copied, tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved", block())(BATCHES[0]), got)


class Twice(nn.Module):
    """A layer that two norms feed, and one that only some calls reach."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.fc, self.rare = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.b(self.fc(self.a(x))))
        return self.rare(y) if len(x) == 3 else y


@torch.no_grad()
def test_layers_that_are_called_twice_or_later() -> None:
    torch.manual_seed(0)
    before = Twice()

    def feed(model: nn.Module) -> None:
        calibrate(model)
        model(BATCHES[0][:3])

    with pytest.warns(CalibrationWarning, match="no norm feeds fc, rare alone"):
        after = quantize(copy.deepcopy(before), SmoothQuantConfig(folding=True), feed)
    assert torch.equal(after.a.weight, before.a.weight)  # type: ignore[union-attr]  # it is a Twice
    after = quantize(copy.deepcopy(before), SmoothQuantConfig(scale_sharing=True), feed)
    assert isinstance(after, Twice)
    assert isinstance(after.fc.input_factor, Tensor)
    assert isinstance(after.rare.input_factor, Tensor)
    for layer, plain in ((after.fc, before.fc), (after.rare, before.rare)):
        assert isinstance(layer, QuantLinear)
        assert isinstance(layer.input_factor, Tensor)
        assert_rounded(layer, plain.weight / layer.input_factor)


@torch.no_grad()
def test_norms_of_language_models_are_found() -> None:
    transformers = pytest.importorskip("transformers", reason="the model is one of transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    before = transformers.LlamaForCausalLM(config).eval()
    ids = torch.arange(48).view(2, 24)
    folding = SmoothQuantConfig(
        folding=True, white_list=[".*q_proj", ".*k_proj", ".*v_proj", ".*gate_proj", ".*up_proj"]
    )
    # A warning, which is an error, would say that a norm was not found.
    after = quantize(copy.deepcopy(before), folding, lambda model: model(input_ids=ids))
    layers = [module for module in after.modules() if isinstance(module, QuantLinear)]
    assert len(layers) == 10
    assert all(layer.input_factor is None for layer in layers)
    norms = [name for name, _ in before.named_modules() if name.endswith("layernorm")]
    assert not any(torch.equal(after.get_submodule(n).weight, before.get_submodule(n).weight) for n in norms)  # type: ignore[arg-type]  # norms have one
    for name, layer in after.named_modules():
        if isinstance(layer, QuantLinear):
            path, _, kind = name.rpartition(".")
            norm = "post_attention_layernorm" if kind in ("gate_proj", "up_proj") else "input_layernorm"
            norm = f"{path.rpartition('.')[0]}.{norm}"
            s = before.get_submodule(norm).weight / after.get_submodule(norm).weight  # type: ignore[operator]  # norms have one
            assert_rounded(layer, before.get_submodule(name).weight * s)  # type: ignore[operator]  # likewise
