import pytest
import torch
from torch import nn
from torch.nn import functional as F

from incref.config.scheme import Elementwise
from incref.config.schemes import SCHEMES
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.modules.input import round_elementwise
from incref.modules.linear import QuantLinear
from incref.numerics.granularity import PER_TOKEN
from incref.qtensor.parts import fake_quantize
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(8, 70, generator=GENERATOR)
B = torch.randn(8, generator=GENERATOR)
X = torch.randn(3, 5, 70, generator=GENERATOR)
BF16 = FORMATS["bfloat16"]
assert isinstance(BF16, FloatFormat)


def make(name: str, *, bias: bool = True, cache_weight: bool = False) -> QuantLinear:
    scheme = SCHEMES[name]
    return QuantLinear(
        QTensor.quantize(W, scheme.weight), B.clone() if bias else None, scheme.activation, cache_weight=cache_weight
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", [name for name in SCHEMES if not name.startswith("int8_")])
def test_forward_is_the_linear_of_the_dequantized(name: str, bias: bool) -> None:
    layer = make(name, bias=bias)
    scheme = SCHEMES[name]
    x = X if scheme.activation is None else fake_quantize(X, scheme.activation)
    want = F.linear(x, fake_quantize(W, scheme.weight), B if bias else None)
    assert torch.equal(layer(X), want)
    assert torch.equal(layer(X), want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["int4_g32", "mxfp4", "nvfp4", "fp8_e4m3_w8a8"])
def test_computes_in_the_dtype_of_the_input(name: str, dtype: torch.dtype) -> None:
    scheme = SCHEMES[name]
    x = X.to(dtype) if scheme.activation is None else fake_quantize(X.to(dtype), scheme.activation)
    y = make(name)(X.to(dtype))
    assert y.dtype is dtype
    assert torch.equal(y, F.linear(x, QTensor.quantize(W, scheme.weight).dequantize(dtype), B.to(dtype)))


def test_tokens_do_not_see_each_other() -> None:
    layer = make("fp8_e4m3_w8a8")
    loud = X.clone()
    loud[0, 0] *= 1000
    assert torch.equal(layer(loud)[1:], layer(X)[1:])


def test_weight_is_the_dequantized_one() -> None:
    layer = make("mxfp4")
    assert torch.equal(layer.weight, fake_quantize(W, SCHEMES["mxfp4"].weight))
    assert layer.weight.dtype is torch.float32


def test_weight_is_kept_packed() -> None:
    layer = make("mxfp6_e2m3", bias=False)
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == {
        "weight_packed": (8, 53),
        "weight_scale": (8, 3),
    }
    assert list(layer.parameters()) == []


def test_cached_weight_gives_the_same_and_is_not_saved() -> None:
    layer = make("nvfp4", cache_weight=True)
    first = layer(X)
    assert torch.equal(first, layer(X))
    assert torch.equal(first, make("nvfp4")(X))
    assert set(layer.state_dict()) == set(make("nvfp4").state_dict())
    assert layer._cached is not None
    y = layer(X.to(torch.bfloat16))
    assert torch.equal(y, make("nvfp4")(X.to(torch.bfloat16)))


@pytest.mark.parametrize("cache_weight", [False, True])
def test_the_weight_is_kept_for_a_while(cache_weight: bool) -> None:
    layer = make("int8", cache_weight=cache_weight)
    with layer.keeping_weight():
        first = layer(X)
        kept = layer._cached
        assert kept is not None
        assert torch.equal(layer(X), first)
        assert layer._cached is kept
    assert layer.cache_weight == cache_weight
    assert (layer._cached is kept) == cache_weight
    assert torch.equal(layer(X), first)


def test_cache_is_dropped_when_it_is_switched_off_or_the_module_moves() -> None:
    layer = make("int8", cache_weight=True)
    layer(X)
    layer.cache_weight = False
    layer(X)
    assert layer._cached is None
    layer.cache_weight = True
    layer(X)
    layer.to("cpu")
    assert layer._cached is None


@pytest.mark.parametrize("name", ["int4_asym_g128", "nvfp4", "fp8_e4m3"])
def test_casting_the_module_leaves_codes_and_scales_alone(name: str) -> None:
    layer, before = make(name), make(name).qweight.to_tensors()
    layer.half().double().to(torch.bfloat16)
    for key, tensor in layer.qweight.to_tensors().items():
        assert tensor.dtype is before[key].dtype
        assert torch.equal(tensor, before[key])
    assert layer.bias is not None
    assert layer.bias.dtype is torch.bfloat16


def test_moves_to_another_device() -> None:
    layer = make("int4_g32").to("meta")
    assert {t.device.type for t in (*layer.buffers(), *layer.parameters())} == {"meta"}
    assert layer(X.to("meta")).shape == (3, 5, 8)


def test_state_dict_restores_the_layer() -> None:
    layer = make("int4_g32")
    other = QuantLinear(QTensor.quantize(torch.ones(8, 70), SCHEMES["int4_g32"].weight), torch.zeros(8))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(X), layer(X))


def test_repr_says_the_format_and_the_true_bits() -> None:
    assert repr(make("mxfp4_w4a4")) == (
        "QuantLinear(in_features=70, out_features=8, bias=True, weight=mxfp4 (4.343 bits), activation=mxfp4)"
    )
    assert repr(make("int8", bias=False)).endswith("bias=False, weight=int8 (8.457 bits))")


@pytest.mark.parametrize("name", ["int4_asym_g128", "mxfp6_e2m3", "nvfp4_w4a4", "fp8_e4m3_w8a8"])
@pytest.mark.parametrize("cache_weight", [False, True])
def test_compiles_into_one_graph(name: str, cache_weight: bool) -> None:
    torch.compiler.reset()
    layer = make(name, cache_weight=cache_weight)
    with torch.no_grad():
        want = make(name)(X)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(X), want)
        assert torch.equal(compiled(X), want)


def test_inputs_that_need_gradients_are_taken() -> None:
    x = X.clone().requires_grad_()
    assert torch.equal(make("mxfp4")(x), make("mxfp4")(X))
    make("mxfp4")(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, make("mxfp4").weight.sum(0).expand_as(X))
    assert torch.equal(make("mxfp4_w4a4")(x), make("mxfp4_w4a4")(X))


def test_elementwise_rounds_input_product_bias_and_sum() -> None:
    # All in bfloat16, ties away: 1 + 2**-8 becomes 1 + 2**-7, and so on; weights and products are exact.
    layer = QuantLinear(
        QTensor.quantize(torch.tensor([[1.0, 1.0]]), QuantSpec(fmt=FORMATS["int8"])),
        torch.tensor([1 + 2.0**-9]),
        elementwise=Elementwise(fmt=BF16, rounding=Rounding.NEAREST_AWAY),
    )
    scale = layer.qweight.scale.item()
    assert layer.weight.tolist() == [[1.0, 1.0]], scale
    # Input 1 + 2**-8 -> 1 + 2**-7; the product 2 + 2**-6 + 2**-9 with the second input 2**-9 + 1 -> 1 is 2 + 2**-7,
    # which needs bit 2**-7 below 2 and rounds away to 2 + 2**-6; the bias becomes 1; the sum is 3 + 2**-6.
    x = torch.tensor([[1 + 2.0**-8, 1 + 2.0**-9]])
    assert layer(x).tolist() == [[3 + 2.0**-6]]


@pytest.mark.parametrize(
    ("rounding", "value"),
    [
        (Rounding.NEAREST_AWAY, 1 + 2.0**-7),
        (Rounding.NEAREST_EVEN, 1.0),
        (Rounding.TOWARD_ZERO, 1.0),
        (Rounding.TOWARD_POSITIVE, 1 + 2.0**-7),
    ],
)
def test_round_elementwise(rounding: Rounding, value: float) -> None:
    y = round_elementwise(
        torch.tensor([1 + 2.0**-8, 3.4e38, torch.inf, -0.0]), Elementwise(fmt=BF16, rounding=rounding)
    )
    assert y.dtype is torch.float32
    assert y[0].item() == value
    assert y[2].item() == torch.inf
    assert (y[3].item(), torch.signbit(y[3]).item()) == (0.0, True)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"is a matrix \[N, K\], got shape \(4,\)"):
        QuantLinear(QTensor.quantize(torch.ones(4), QuantSpec(fmt=FORMATS["int8"])))
    with pytest.raises(ValueError, match=r"the bias must have shape \(8,\), got \(7,\)"):
        QuantLinear(QTensor.quantize(W, SCHEMES["int8"].weight), torch.ones(7))


def test_a_parameter_stays_the_parameter_that_it_was() -> None:
    bias = nn.Parameter(B.clone())
    assert QuantLinear(QTensor.quantize(W, SCHEMES["int8"].weight), bias).bias is bias


def test_activation_granularity_is_free() -> None:
    spec = QuantSpec(fmt=FORMATS["float8_e5m2"], granularity=PER_TOKEN)
    layer = QuantLinear(QTensor.quantize(W, SCHEMES["int8"].weight), None, spec)
    assert torch.equal(layer(X), F.linear(fake_quantize(X, spec), layer.weight))


def test_stochastic_activations_follow_the_seed() -> None:
    spec = QuantSpec(fmt=FORMATS["mxfp4"], rounding=Rounding.STOCHASTIC)
    layer = QuantLinear(QTensor.quantize(W, SCHEMES["int8"].weight), None, spec)
    torch.manual_seed(0)
    first = layer(X)
    assert not torch.equal(first, layer(X))
    torch.manual_seed(0)
    assert torch.equal(first, layer(X))
