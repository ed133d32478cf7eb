import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from incref.config.mx import MXQuantConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import LayerError
from incref.modules.linear import QuantLinear
from incref.qtensor.parts import fake_quantize
from incref.workflow.convert import convert
from incref.workflow.layers import needs_calibration
from incref.workflow.prepare import find_plan, prepare

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 70), nn.ReLU(), nn.Linear(70, 5, bias=False))


# The model has no products of two inputs.
FREE = [name for name, scheme in SCHEMES.items() if not needs_calibration(scheme) and scheme.inputs is None]


@pytest.mark.parametrize("name", [name for name in FREE if name != "int8_dynamic"])
def test_the_model_computes_with_the_dequantized(name: str) -> None:
    m, scheme = model(), SCHEMES[name]

    def apply(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        x = x if scheme.activation is None else fake_quantize(x, scheme.activation)
        return F.linear(x, fake_quantize(layer.weight.detach(), scheme.weight), layer.bias)

    want = apply(m[2], F.relu(apply(m[0], X)))
    assert torch.equal(convert(m, scheme)(X), want)


def test_prepared_models_need_no_configuration() -> None:
    want = convert(model(), RTNConfig())(X)
    prepared = prepare(model(), RTNConfig())
    converted = convert(prepared)
    assert converted is prepared
    assert torch.equal(converted(X), want)
    assert find_plan(converted) is None


def test_a_second_configuration_must_be_the_same() -> None:
    prepared = prepare(model(), RTNConfig())
    with pytest.raises(ValueError, match="prepared with another configuration; leave quant_config out"):
        convert(prepared, RTNConfig(bits=8))
    assert torch.equal(convert(prepared, RTNConfig())(X), convert(model(), RTNConfig())(X))


def test_without_any_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="the model is not prepared; pass quant_config, or call prepare first"):
        convert(model())


@pytest.mark.parametrize("is_prepared", [False, True])
def test_inplace_false_shares_nothing(is_prepared: bool) -> None:
    m = model()
    state = {name: t.clone() for name, t in m.state_dict().items()}
    if is_prepared:
        prepare(m, RTNConfig())
    converted = convert(m, None if is_prepared else RTNConfig(), inplace=False)
    assert not isinstance(m[0], QuantLinear)
    ours = {t.data_ptr() for t in (*m.parameters(), *m.buffers())}
    assert ours.isdisjoint(t.data_ptr() for t in (*converted.parameters(), *converted.buffers()))
    assert all(torch.equal(t, state[name]) for name, t in m.state_dict().items())
    assert (find_plan(m) is not None) == is_prepared


def test_float_weights_are_let_go_one_by_one() -> None:
    m = model()
    weights = [weakref.ref(m[0].weight), weakref.ref(m[2].weight)]
    alive: list[list[bool]] = []

    def progress(name: str, done: int, total: int) -> None:  # noqa: ARG001
        gc.collect()
        alive.append([ref() is not None for ref in weights])

    convert(m, RTNConfig(), progress=progress)
    assert alive[0][1]
    assert [ref() is None for ref in weights] == [True, True]


def test_progress_names_every_layer() -> None:
    calls: list[tuple[str, int, int]] = []
    convert(model(), RTNConfig(), progress=lambda *call: calls.append(call))
    assert calls == [("0", 1, 2), ("2", 2, 2)]


def test_bias_and_mode_stay() -> None:
    m = model().eval()
    bias = m[0].bias
    convert(m, RTNConfig())
    assert m[0].bias is bias
    assert not m[0].training
    assert convert(model(), RTNConfig())[0].training


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("config", [RTNConfig(), SCHEMES["fp8_e4m3"], SCHEMES["mxfp4"]], ids=["int", "fp8", "mx"])
def test_a_weight_that_is_not_finite_stops_before_anything_changes(value: float, config: QuantConfig) -> None:
    m = model()
    with torch.no_grad():
        m[2].weight[1, 1] = value
    with pytest.raises(
        LayerError, match=r"^2: a weight must be finite, and this one of shape \(5, 70\) has NaN or Inf"
    ):
        convert(m, config)
    assert isinstance(m[0], nn.Linear)


def test_a_weight_without_values_is_refused() -> None:
    with pytest.raises(LayerError, match=r"^0: the weight is on the meta device"):
        convert(model().to("meta"), RTNConfig())


def test_a_dtype_that_a_format_does_not_take_is_explained() -> None:
    with pytest.raises(
        LayerError, match=r"^0: a weight of shape \(70, 64\) and torch.float64 can't become nvfp4: nvfp4"
    ):
        convert(model().double(), SCHEMES["nvfp4"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_any_dtype(dtype: torch.dtype) -> None:
    m = model().to(dtype)
    weight = m[0].weight.detach().clone()
    convert(m, SCHEMES["mxfp4"])
    assert torch.equal(m[0].weight, fake_quantize(weight, SCHEMES["mxfp4"].weight))
    assert m(X.to(dtype)).dtype is dtype


def test_a_layer_that_is_used_twice_is_converted_once() -> None:
    shared = nn.Linear(8, 8)
    m = nn.Sequential(shared, nn.ReLU(), shared)
    convert(m, RTNConfig())
    assert isinstance(m[0], QuantLinear)
    assert m[0] is m[2]


def test_a_tied_head_stays_tied() -> None:
    m = nn.ModuleDict({"embedding": nn.Embedding(9, 8), "body": nn.Linear(8, 8), "head": nn.Linear(8, 9, bias=False)})
    m["head"].weight = m["embedding"].weight
    convert(m, RTNConfig(quant_lm_head=True))
    assert isinstance(m["body"], QuantLinear)
    assert m["head"].weight is m["embedding"].weight


def test_shared_exponents_are_exact_just_below_a_power_of_two() -> None:
    # The greatest bfloat16 below 256: its exponent is 7, so fp4 saturates at 6 * 2**5 = 192.
    m = nn.Sequential(nn.Linear(32, 1, bias=False)).to(torch.bfloat16)
    with torch.no_grad():
        m[0].weight.fill_(255.0)
    convert(m, MXQuantConfig(w_dtype="fp4", weight_only=True))
    assert m[0].weight.unique().tolist() == [192.0]


def test_mx_rounds_ties_away_from_zero() -> None:
    m = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        m[0].weight.copy_(torch.tensor([[6.0, 2.5, -2.5, 0.25]]))
    nearest = convert(copy.deepcopy(m), MXQuantConfig(w_dtype="fp4", weight_only=True))
    assert nearest[0].weight.tolist() == [[6.0, 3.0, -3.0, 0.5]]
    even = convert(copy.deepcopy(m), MXQuantConfig(w_dtype="fp4", weight_only=True, round_method="even"))
    assert even[0].weight.tolist() == [[6.0, 2.0, -2.0, 0.0]]
    floor = convert(copy.deepcopy(m), MXQuantConfig(w_dtype="fp4", weight_only=True, round_method="floor"))
    assert floor[0].weight.tolist() == [[6.0, 2.0, -2.0, 0.0]]


def test_mx_rounds_weights_to_out_dtype_first() -> None:
    # 2.5 + 2**-8 is above the tie; rounded to bfloat16 (8 bits: steps of 2**-6 there) it is the tie itself.
    m = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        m[0].weight.copy_(torch.tensor([[6.0, 2.5 + 2.0**-8]]))
    kept = convert(copy.deepcopy(m), MXQuantConfig(w_dtype="fp4", out_dtype="float32", round_method="even"))
    assert kept[0].weight.tolist() == [[6.0, 3.0]]
    rounded = convert(copy.deepcopy(m), MXQuantConfig(w_dtype="fp4", round_method="even"))
    assert rounded[0].weight.tolist() == [[6.0, 2.0]]
