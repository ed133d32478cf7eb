"""Layers are calibrated by what the quantized layers before them give."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.algorithms.gptq import gptq
from incref.algorithms.rtn import rtn
from incref.calibration.hessian import Hessian
from incref.config.gptq import GPTQConfig
from incref.config.method import GPTQ
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.errors import CalibrationWarning, LayerError
from incref.formats import FORMATS
from incref.modules.linear import QuantLinear
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.quantize import quantize
from incref.workflow.save import save

K = 32


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(K, K), nn.Linear(K, K)
        self.c = nn.Linear(K, K)
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.drop(self.c(F.relu(self.a(x)) + self.b(x)))
        return result


class Model(nn.Module):
    def __init__(self, *, detour: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(8, K)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.tail = nn.Linear(K, 4)
        self.detour = detour

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h + 1 if self.detour else h)
        result: Tensor = self.tail(h)
        return result


def model(*, detour: bool = False) -> Model:
    torch.manual_seed(0)
    made = Model(detour=detour)
    made.eval()
    return made


BATCHES = [torch.randn(64, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]


def calibrate(prepared: nn.Module) -> None:
    with torch.no_grad():
        for batch in BATCHES:
            prepared(batch)


def by_hand(layer: nn.Module, inputs: list[Tensor], scheme: LayerScheme) -> QTensor:
    assert isinstance(layer, nn.Linear)
    assert isinstance(scheme.method, GPTQ)
    hessian = Hessian(layer.in_features, layer.weight.device)
    for x in inputs:
        hessian.add(x)
    return gptq(layer.weight.detach(), hessian.total, scheme.weight, scheme.method).qweight


def same(got: nn.Module, want: QTensor) -> bool:
    assert isinstance(got, QuantLinear)
    mine, theirs = got.qweight.to_tensors(), want.to_tensors()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


CONFIG = GPTQConfig(group_size=16, group_scales="current", act_order=True)


@torch.no_grad()
@pytest.mark.parametrize("true_sequential", [False, True])
def test_blocks_get_what_the_quantized_ones_give(true_sequential: bool) -> None:
    config = GPTQConfig(group_size=16, group_scales="current", true_sequential=true_sequential)
    scheme = config.scheme()
    assert scheme is not None
    before = model()
    after = quantize(copy.deepcopy(before), config, calibrate)
    assert isinstance(after, Model)
    states = [before.stem(x) for x in BATCHES]
    for old, new in zip(before.blocks, after.blocks, strict=True):
        assert isinstance(old, Block)
        assert isinstance(new, Block)
        assert same(new.a, by_hand(old.a, states, scheme))
        assert same(new.b, by_hand(old.b, states, scheme))
        source = new if true_sequential else old
        inner = [F.relu(source.a(x)) + source.b(x) for x in states]
        assert same(new.c, by_hand(old.c, inner, scheme))
        states = [new(x) for x in states]
    # Layers outside of the blocks come last, with the blocks as they are by then.
    assert same(after.stem, by_hand(before.stem, BATCHES, scheme))
    if true_sequential:
        states = [after.blocks[1](after.blocks[0](after.stem(x))) for x in BATCHES]
    assert same(after.tail, by_hand(before.tail, states, scheme))


@torch.no_grad()
def test_without_a_chain_all_layers_see_the_float_model() -> None:
    scheme = CONFIG.scheme()
    assert scheme is not None
    before = model(detour=True)
    after = quantize(copy.deepcopy(before), CONFIG, calibrate)
    assert isinstance(after, Model)
    states = [before.blocks[0](before.stem(x) + 1) + 1 for x in BATCHES]
    old, new = before.blocks[1], after.blocks[1]
    assert isinstance(old, Block)
    assert isinstance(new, Block)
    assert same(new.a, by_hand(old.a, states, scheme))


@torch.no_grad()
def test_other_methods_go_along() -> None:
    config = (
        GPTQConfig(group_size=16).set_local("blocks.0", RTNConfig(dtype="mxfp4")).set_local("tail", RTNConfig(bits=8))
    )
    before = model()
    after = quantize(copy.deepcopy(before), config, calibrate)
    assert isinstance(after, Model)
    assert same(
        after.get_submodule("blocks.0.c"), rtn(before.get_parameter("blocks.0.c.weight"), SCHEMES["mxfp4"].weight)
    )
    states = [after.blocks[0](before.stem(x)) for x in BATCHES]
    scheme = config.scheme()
    assert scheme is not None
    assert same(after.get_submodule("blocks.1.a"), by_hand(before.get_submodule("blocks.1.a"), states, scheme))


@torch.no_grad()
def test_the_hessian_is_that_of_the_quantized_input() -> None:
    mx = QuantSpec(fmt=FORMATS["mxfp4"])
    scheme = LayerScheme(weight=mx, activation=mx, method=GPTQ())
    before = model()
    after = quantize(copy.deepcopy(before), scheme, calibrate)
    assert isinstance(after, Model)
    seen = [QTensor.quantize(before.stem(x), mx).dequantize() for x in BATCHES]
    assert same(after.get_submodule("blocks.0.a"), by_hand(before.get_submodule("blocks.0.a"), seen, scheme))


def test_progress_names_every_layer_once() -> None:
    calls: list[tuple[str, int, int]] = []
    quantize(model(), CONFIG, calibrate, progress=lambda *call: calls.append(call))
    assert sorted(name for name, _, _ in calls) == sorted(
        n for n, m in model().named_modules() if isinstance(m, nn.Linear)
    )
    assert [done for _, done, _ in calls] == list(range(1, 9))
    assert {total for _, _, total in calls} == {8}


def test_modes_and_outputs_are_as_before() -> None:
    float_model = model()
    float_model.blocks[0].train()
    prepared = prepare(float_model, CONFIG)
    calibrate(prepared)
    converted = convert(prepared)
    assert converted.get_submodule("blocks.0").training
    assert converted.get_submodule("blocks.0.a").training
    assert not converted.get_submodule("blocks.1").training
    assert find_plan(converted) is None
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in converted.modules())


def test_converting_a_copy_leaves_the_model_prepared() -> None:
    prepared = prepare(model(), CONFIG)
    calibrate(prepared)
    first = convert(prepared, inplace=False)
    assert find_plan(prepared) is not None
    assert all(isinstance(m, nn.Linear) for n, m in prepared.named_modules() if n.endswith((".a", "tail")))
    second = convert(prepared)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_save_and_load_keep_the_order_of_columns(tmp_path: object) -> None:
    converted = quantize(model(), CONFIG, calibrate)
    save(converted, f"{tmp_path}/saved")
    loaded = load(f"{tmp_path}/saved", model())
    assert "blocks.0.a.weight_order" in loaded.state_dict()
    assert torch.equal(loaded(BATCHES[0]), converted(BATCHES[0]))


def test_needs_calibration() -> None:
    with pytest.raises(ValueError, match="stem is quantized with the help of calibration data, and there is none"):
        convert(model(), CONFIG)
    with pytest.raises(ValueError, match="call prepare, then the prepared model"):
        convert(prepare(model(), CONFIG))


def test_a_layer_that_is_never_called_is_rounded() -> None:
    class Unused(Model):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(K, K)

    made = Unused()
    weight = made.unused.weight.detach().clone()
    with pytest.warns(CalibrationWarning, match="unused was never called"):
        quantize(made, CONFIG, calibrate)
    scheme = CONFIG.scheme()
    assert scheme is not None
    assert isinstance(made.unused, QuantLinear)
    assert torch.equal(made.unused.qweight.dequantize(), rtn(weight, scheme.weight).dequantize())


def test_raised_damping_is_reported() -> None:
    config = GPTQConfig(group_size=16, percdamp=0.0, white_list=["blocks"])
    prepared = prepare(model(), config)
    prepared(BATCHES[0][:1])
    with pytest.warns(CalibrationWarning, match=r"the Hessian of 32 input features has no factor with percdamp=0.0"):
        convert(prepared)


def test_nan_in_the_data_names_the_layer() -> None:
    prepared = prepare(model(), CONFIG)
    prepared(torch.full((2, 8), torch.nan))
    with pytest.raises(LayerError, match=r"blocks.0.a: .* look for NaN or Inf"):
        convert(prepared)


def test_transformers_models_are_chains() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(0))
    prepared = prepare(llama, GPTQConfig(group_size=16, quant_lm_head=True))
    with torch.no_grad():
        before = prepared(tokens).logits
    plan = find_plan(prepared)
    assert plan is not None
    assert plan.recorder is not None
    assert plan.recorder.blocks == ["model.layers.0", "model.layers.1"]
    assert plan.recorder.chains is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = convert(prepared)
    assert all(isinstance(m, QuantLinear) for n, m in converted.named_modules() if n.endswith(("proj", "lm_head")))
    with torch.no_grad():
        after = converted(tokens).logits
    assert 0 < float((after - before).square().mean()) < float(before.square().mean())


def test_mx_config_needs_no_calibration() -> None:
    plan = find_plan(prepare(model(), MXQuantConfig()))
    assert plan is not None
    assert plan.recorder is None
