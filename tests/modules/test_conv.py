import pytest
import torch
from torch import nn

from incref.config.scheme import Elementwise
from incref.formats import FORMATS, FloatFormat
from incref.modules.conv import QuantConv2d
from incref.modules.input import round_elementwise
from incref.modules.table import quantized_layer
from incref.numerics.granularity import per_channel
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

SPEC = QuantSpec(fmt=FORMATS["int8"], granularity=per_channel(0, ndim=4))
CASES = {
    "plain": {},
    "stride": {"stride": 2, "padding": (1, 2)},
    "groups": {"groups": 2, "dilation": 2},
    "same": {"padding": "same", "dilation": (2, 1)},
    "valid": {"padding": "valid"},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "circular": {"padding": (2, 1), "padding_mode": "circular"},
    "same replicate": {"padding": "same", "padding_mode": "replicate"},
    "no bias": {"bias": False},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_computes_what_the_float_layer_does_with_the_dequantized_weight(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, (4, 3), **options)  # type: ignore[arg-type]  # the cases are right
    x = torch.randn(2, 4, 12, 13)
    qweight = QTensor.quantize(layer.weight.detach(), SPEC)
    made = quantized_layer(layer, qweight, layer.bias, None)
    assert isinstance(made, QuantConv2d)
    with torch.no_grad():
        layer.weight.copy_(qweight.dequantize())
    assert torch.equal(made(x), layer(x))
    assert made.bias is layer.bias


def test_elementwise() -> None:
    layer = nn.Conv2d(3, 5, 3)
    x = torch.randn(1, 3, 6, 6)
    fmt = FORMATS["bfloat16"]
    assert isinstance(fmt, FloatFormat)
    bf16 = Elementwise(fmt=fmt)
    qweight = QTensor.quantize(layer.weight.detach(), SPEC)
    made = quantized_layer(layer, qweight, layer.bias, None, elementwise=bf16)
    assert layer.bias is not None
    product = nn.functional.conv2d(round_elementwise(x, bf16), qweight.dequantize())
    want = round_elementwise(
        round_elementwise(product, bf16) + round_elementwise(layer.bias, bf16)[:, None, None], bf16
    )
    assert torch.equal(made(x), want)


def test_describes_itself() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, groups=2)
    made = quantized_layer(layer, QTensor.quantize(layer.weight.detach(), SPEC), layer.bias, None)
    assert repr(made).startswith("QuantConv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(0, 0), bias=True")


def test_a_matrix_is_no_convolution() -> None:
    with pytest.raises(ValueError, match=r"the shape \[N, C / groups, kh, kw\], got \(3, 4\)"):
        QuantConv2d(QTensor.quantize(torch.ones(3, 4), QuantSpec(fmt=FORMATS["int8"])))
