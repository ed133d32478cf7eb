"""Layers that multiply integers, against sums of products of Python's integers and the roundings that are promised."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.config.scheme import Elementwise
from incref.conformance.judge import assert_same_bits
from incref.errors import NanError, UnsupportedError
from incref.formats import FORMATS, FloatFormat, SymmetricScale
from incref.modules.conv import QuantConv2d
from incref.modules.integer import multiplies_integers
from incref.modules.linear import QuantLinear
from incref.modules.table import quantized_layer
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel, per_group
from incref.ops.quantize_affine import quantize_affine
from incref.qtensor.parts import quantize_parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

SYMMETRIC = QuantSpec(fmt=FORMATS["int8"], symmetric_scale=SymmetricScale.SPAN)
AFFINE = QuantSpec(fmt=FORMATS["uint8"], symmetric=False)
PER_ROW = QuantSpec(fmt=FORMATS["uint8"], symmetric=False, granularity=PER_TOKEN)
SIGNED_AFFINE = QuantSpec(fmt=FORMATS["int8"], symmetric=False)
INPUTS = [SYMMETRIC, AFFINE, PER_ROW, SIGNED_AFFINE]
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 5, 70, generator=GENERATOR)
W = torch.randn(9, 70, generator=GENERATOR)
B = torch.randn(9, generator=GENERATOR)


def weights(ndim: int) -> dict[str, QuantSpec]:
    channels = per_channel(0, ndim=ndim)
    return {
        "per channel": QuantSpec(fmt=FORMATS["int8"], granularity=channels),
        "per tensor": SYMMETRIC,
        "zero points": QuantSpec(fmt=FORMATS["int8"], granularity=channels, symmetric=False),
        "unsigned": QuantSpec(fmt=FORMATS["uint8"], granularity=channels, symmetric=False),
        "one unsigned": QuantSpec(fmt=FORMATS["uint8"], symmetric=False),
        "four bits": QuantSpec(fmt=FORMATS["int4"], granularity=channels),
        "four bits unsigned": QuantSpec(fmt=FORMATS["uint4"], granularity=channels, symmetric=False),
    }


def shifted(x: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Codes less their zero points, float64 and so exact in sums, and scales."""
    parts = quantize_parts(x, spec)
    zero = 0 if parts.zero_point is None else parts.zero_point
    return parts.codes.double() - zero, parts.scale


def epilogue(acc: Tensor, x_scale: Tensor, w_scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    y = (acc.float() * x_scale) * w_scale
    return (y if bias is None else y + bias.float()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("activation", INPUTS, ids=str)
@pytest.mark.parametrize("weight", weights(2).values(), ids=weights(2))
def test_linear(weight: QuantSpec, activation: QuantSpec, dtype: torch.dtype) -> None:
    x, bias = X.to(dtype), B.to(dtype) if dtype is not torch.float16 else None
    layer = QuantLinear(QTensor.quantize(W, weight), bias, activation)
    (a, x_scale), (w, w_scale) = shifted(x, activation), shifted(W, weight)
    assert_same_bits(layer(x), epilogue(a @ w.T, x_scale, w_scale.flatten(), bias, dtype))
    assert_same_bits(layer(x[0, 0]), layer(x[:1, :1])[0, 0])
    assert layer(x[:0]).shape == (0, 5, 9)


CASES = {
    "plain": {},
    "stride": {"stride": 2, "padding": (1, 2)},
    "groups": {"groups": 2, "dilation": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "same": {"padding": "same", "dilation": (2, 1)},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": (2, 1), "padding_mode": "circular"},
    "no bias": {"bias": False},
}


@pytest.mark.parametrize("activation", [SYMMETRIC, AFFINE], ids=str)
@pytest.mark.parametrize("weight", ["per channel", "per tensor", "zero points", "unsigned"])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@torch.no_grad()
def test_convolution(options: dict[str, object], weight: str, activation: QuantSpec) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, (4, 3), **options)  # type: ignore[arg-type]  # the cases are right
    spec = weights(4)[weight]
    x = torch.randn(2, 4, 12, 13)
    made = quantized_layer(layer, QTensor.quantize(layer.weight.detach(), spec), layer.bias, activation)
    assert isinstance(made, QuantConv2d)
    (a, x_scale), (w, w_scale) = shifted(x, activation), shifted(layer.weight, spec)
    exact = nn.Conv2d(4, 8, (4, 3), **{**options, "bias": False}, dtype=torch.float64)  # type: ignore[arg-type]  # likewise
    exact.weight.copy_(w)
    bias = None if layer.bias is None else layer.bias[:, None, None]
    want = epilogue(exact(a), x_scale, w_scale.flatten()[:, None, None] if w_scale.ndim else w_scale, bias, x.dtype)
    assert_same_bits(made(x), want)
    assert_same_bits(made(x[0]), made(x[:1])[0]) if activation.symmetric else None


@torch.no_grad()
def test_a_static_scale_is_used_and_saturates() -> None:
    scale, zero_point = torch.tensor(0.01), torch.tensor(100, dtype=torch.int32)
    layer = QuantLinear(QTensor.quantize(W, SYMMETRIC), None, AFFINE, input_scale=scale, input_zero_point=zero_point)
    codes, *_ = quantize_affine(X, "uint8", scale, zero_point)
    assert (int(codes.min()), int(codes.max())) == (0, 255)
    w, w_scale = shifted(W, SYMMETRIC)
    assert_same_bits(layer(X), epilogue((codes.double() - 100) @ w.T, scale, w_scale, None, torch.float32))
    assert torch.isfinite(layer(X * torch.inf)).all()
    with pytest.raises(NanError):
        layer(X * torch.nan)


@torch.no_grad()
def test_features_are_multiplied_first() -> None:
    factor = torch.rand(70, generator=GENERATOR) + 0.5
    qweight = QTensor.quantize(W, SYMMETRIC)
    layer = QuantLinear(qweight, None, AFFINE, input_factor=factor)
    assert_same_bits(layer(X), QuantLinear(qweight, None, AFFINE)(X * factor))
    half = X.to(torch.bfloat16)
    assert_same_bits(layer(half), QuantLinear(qweight, None, AFFINE)((half.float() * factor).to(torch.bfloat16)))
    assert "smoothed" in repr(layer)


def test_a_cast_of_the_model_leaves_scales_alone() -> None:
    layer = QuantLinear(
        QTensor.quantize(W, SYMMETRIC),
        B.clone(),
        AFFINE,
        input_scale=torch.tensor(0.3),
        input_zero_point=torch.tensor(3, dtype=torch.int32),
    ).to(torch.bfloat16)
    assert layer.input_scale is not None
    assert layer.input_scale.dtype is torch.float32
    assert layer.bias is not None
    assert layer.bias.dtype is torch.bfloat16


def test_which_layers_multiply_integers() -> None:
    rows = QuantSpec(fmt=FORMATS["int8"], granularity=per_channel(0, ndim=2))
    groups = QuantSpec(fmt=FORMATS["int8"], granularity=per_group(10))
    assert multiplies_integers(rows, PER_ROW)
    assert not multiplies_integers(rows, None)
    assert not multiplies_integers(groups, AFFINE)
    assert not multiplies_integers(rows, groups)
    assert not multiplies_integers(rows, QuantSpec(fmt=FORMATS["mxint8"]))
    assert not multiplies_integers(QuantSpec(fmt=FORMATS["float8_e4m3fn"]), AFFINE)
    assert not multiplies_integers(QuantSpec(fmt=FORMATS["int8"], granularity=per_channel(0, ndim=4)), PER_ROW, 4)


def test_groups_of_weights_go_by_the_dequantized() -> None:
    qweight = QTensor.quantize(W, QuantSpec(fmt=FORMATS["int8"], granularity=per_group(10)))
    layer = QuantLinear(qweight, None, AFFINE)
    parts = quantize_parts(X, AFFINE)
    values = (parts.codes.float() - (0 if parts.zero_point is None else parts.zero_point)) * parts.scale
    assert torch.equal(layer(X), F.linear(values, qweight.dequantize()))


def test_contradictions_are_refused() -> None:
    qweight = QTensor.quantize(W, SYMMETRIC)
    scale, zero = torch.tensor(0.3), torch.tensor(3, dtype=torch.int32)
    with pytest.raises(ValueError, match="an input_zero_point goes with the input_scale of an input that is not symme"):
        QuantLinear(qweight, None, AFFINE, input_scale=scale)
    with pytest.raises(ValueError, match="an input_zero_point goes with the input_scale of an input that is not symme"):
        QuantLinear(qweight, None, SYMMETRIC, input_scale=scale, input_zero_point=zero)
    with pytest.raises(ValueError, match=r"input_zero_point must be torch.int32 of shape \(\), got torch.int64"):
        QuantLinear(qweight, None, AFFINE, input_scale=scale, input_zero_point=zero.long())
    with pytest.raises(ValueError, match=r"input_factor must be torch.float32 of shape \(70,\), got"):
        QuantLinear(qweight, None, AFFINE, input_factor=torch.ones(9))
    bf16 = FORMATS["bfloat16"]
    assert isinstance(bf16, FloatFormat)
    with pytest.raises(ValueError, match="leave elementwise out"):
        QuantLinear(qweight, None, AFFINE, elementwise=Elementwise(fmt=bf16))
    conv = nn.Conv2d(70, 9, 1)
    made = quantized_layer(conv, qweight, None, PER_ROW)
    with pytest.raises(UnsupportedError, match="one scale for its input, not one scale a row"):
        made(X.mT[..., None])
    assert multiplies_integers(qweight.spec, QuantSpec(fmt=FORMATS["int8"], granularity=PER_TENSOR))
