import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.config.mx import MXQuantConfig
from incref.config.scheme import Elementwise
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.modules.conv import QuantConv2d
from incref.modules.input import round_elementwise
from incref.modules.table import quantized_layer
from incref.numerics.granularity import per_channel
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.quantize_mx import quantize_mx
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec
from incref.workflow.convert import convert

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


def test_a_vector_is_no_convolution() -> None:
    with pytest.raises(ValueError, match=r"the shape \[N, C / groups, kh, kw\], or is a matrix, got \(3,\)"):
        QuantConv2d(QTensor.quantize(torch.ones(3), QuantSpec(fmt=FORMATS["int8"])))


def test_mx_blocks_lie_along_channels() -> None:
    layer = nn.Conv2d(70, 8, 3, stride=2, groups=2)
    config = MXQuantConfig(w_dtype="fp4", act_dtype="fp8_e4m3", out_dtype="float32")
    converted = convert(nn.Sequential(layer), config)
    x = torch.randn(2, 70, 5, 5, generator=torch.Generator().manual_seed(0))

    def along_channels(values: Tensor, fmt: str) -> Tensor:
        codes, scale, *_ = quantize_mx(values.movedim(-3, -1), fmt, rounding=Rounding.NEAREST_AWAY)
        return dequantize_mx(codes, scale, fmt).movedim(-1, -3)

    weight = along_channels(layer.weight.detach(), "mxfp4")
    for given in (x, x[0]):
        want = F.conv2d(along_channels(given, "mxfp8_e4m3"), weight, layer.bias, stride=2, groups=2)
        assert torch.equal(converted(given), want)
