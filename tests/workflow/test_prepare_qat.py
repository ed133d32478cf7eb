"""Fine-tuning: what is trained computes what is converted."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.config.mixed_precision import MixedPrecisionConfig
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import UnsupportedError
from incref.modules.conv import QuantConv2d
from incref.modules.input import InputQuantizer
from incref.modules.linear import QuantLinear
from incref.workflow.convert import convert
from incref.workflow.prepare import find_plan, prepare
from incref.workflow.prepare_qat import prepare_qat
from incref.workflow.save import save


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 36, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Flatten(), nn.Linear(36 * 16, 5)
    )


X = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
CONFIGS: dict[str, BaseConfig] = {
    "mx": MXQuantConfig(w_dtype="fp4", act_dtype="fp8_e4m3", round_method="even"),
    "mx without rounding of outputs": MXQuantConfig(w_dtype="nvfp4", act_dtype="nvfp4", out_dtype="float32"),
    "stochastic weights": MXQuantConfig(w_dtype="fp4", weight_only=True, round_method="dither", out_dtype="float32"),
    "fp8": FP8Config(dynamic_quantization=True, scale_method="maxabs_pow2_opt_weight", target="gaudi2"),
    "rtn": RTNConfig(bits=4, group_size=32, use_mse_search=True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_computes_what_the_converted_model_computes(name: str) -> None:
    trained, converted = prepare_qat(net(), CONFIGS[name]), convert(net(), CONFIGS[name])
    assert torch.equal(trained(X), converted(X))
    assert torch.equal(convert(trained)(X), converted(X))
    assert isinstance(trained[3], QuantLinear)


def test_weights_are_trained_and_then_converted() -> None:
    config = CONFIGS["mx"]
    model = net()
    weight = model[3].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    prepare_qat(model, config)
    assert model[3].weight is weight
    target = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X), target)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    losses = [step() for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]
    last = model(X)
    floats = net()
    floats.load_state_dict(model.state_dict())
    assert torch.equal(convert(floats, config)(X), last)
    assert torch.equal(convert(model)(X), last)


def test_gradients_are_those_of_the_products_of_what_was_quantized() -> None:
    config = MXQuantConfig(w_dtype="fp4", act_dtype="fp4", round_method="even")
    layer = nn.Linear(40, 6)
    model = prepare_qat(nn.Sequential(layer), config)
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(3), requires_grad=True)
    grad = torch.randn(5, 6, generator=torch.Generator().manual_seed(4))
    model(x).backward(grad)
    converted = convert(copy.deepcopy(model), inplace=False)
    quantized_weight = converted[0].weight
    quantizer = InputQuantizer(elementwise=config.scheme().elementwise, activation=config.scheme().activation)
    quantized_input = quantizer(x.detach())
    assert layer.weight.grad is not None
    assert x.grad is not None
    assert layer.bias.grad is not None
    assert torch.equal(layer.weight.grad, grad.T @ quantized_input)
    assert torch.equal(x.grad, grad @ quantized_weight)
    assert torch.equal(layer.bias.grad, grad.sum(0))


def test_the_float_model_comes_back() -> None:
    class Mine(nn.Linear):
        pass

    model = nn.Sequential(Mine(8, 4))
    prepared = prepare_qat(model, CONFIGS["rtn"], inplace=False)
    assert type(model[0]) is Mine
    assert prepared.state_dict().keys() == model.state_dict().keys()
    kept = convert(prepared, inplace=False)
    assert isinstance(kept[0], QuantLinear)
    # It goes on training.
    assert find_plan(prepared) is not None
    prepared(torch.ones(1, 8)).sum().backward()
    assert prepared[0].weight.grad is not None
    assert isinstance(convert(prepared)[0], QuantLinear)


def test_layers_that_do_not_train_and_other_dtypes() -> None:
    model = net()
    model[3].weight.requires_grad_(requires_grad=False)
    prepared = prepare_qat(model, CONFIGS["mx"]).to(torch.bfloat16)
    prepared(X.to(torch.bfloat16)).sum().backward()
    assert model[3].weight.grad is None
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.dtype is torch.bfloat16
    assert isinstance(convert(prepared)[0], QuantConv2d)


def test_calibration_data_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="0: calibration data says nothing of weights that change"):
        prepare_qat(net(), GPTQConfig())
    with pytest.raises(UnsupportedError, match="0: calibration data says nothing of weights that change"):
        prepare_qat(net(), FP8Config())
    with pytest.raises(UnsupportedError, match="0: a layer that is cast has no float weight beside it"):
        prepare_qat(net(), MixedPrecisionConfig(dtype="bf16"))


def test_prepared_twice_or_saved_too_early(tmp_path: object) -> None:
    model = prepare_qat(net(), CONFIGS["rtn"])
    for again in (prepare, prepare_qat):
        with pytest.raises(ValueError, match="the model is prepared already"):
            again(model, CONFIGS["rtn"])
    with pytest.raises(ValueError, match="prepared and not converted yet"):
        save(model, str(tmp_path))


def test_linear_layers_of_gpt2() -> None:
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    model = nn.Sequential(pytorch_utils.Conv1D(6, 40))
    nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    want = convert(copy.deepcopy(model), CONFIGS["mx"])(x)
    trained = prepare_qat(model, CONFIGS["mx"])
    got = trained(x)
    assert torch.equal(got, want)
    got.sum().backward()
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.shape == (40, 6)
    assert torch.equal(convert(trained)(x), want)


def test_embeddings_are_not_trained() -> None:
    config = FP8Config(allowlist={"types": ["Embedding"]}, dynamic_quantization=True)
    with pytest.raises(UnsupportedError, match="0: Linear, Conv1D, Conv2d can be fine-tuned, got Embedding"):
        prepare_qat(nn.Sequential(nn.Embedding(4, 8)), config)


# PyTorch warns about what its own compiler does with a torch.autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("prepared", [prepare_qat, convert], ids=["trained", "converted"])
def test_one_graph(prepared: Callable[[nn.Module, BaseConfig], nn.Module]) -> None:
    model = prepared(nn.Sequential(nn.Linear(64, 8)), CONFIGS["mx"])
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    got = compiled(x)
    assert torch.equal(got, model(x))
    got.sum().backward()
    assert x.grad is not None
