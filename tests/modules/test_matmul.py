import pytest
import torch

from incref.config.scheme import Elementwise, InputScheme
from incref.formats import FORMATS, FloatFormat
from incref.modules.input import round_elementwise
from incref.modules.matmul import QuantMatmul
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_group
from incref.qtensor.parts import fake_quantize
from incref.qtensor.spec import QuantSpec

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 5, 40, generator=GENERATOR)
Y = torch.randn(2, 3, 40, 4, generator=GENERATOR)
E4M3 = FORMATS["float8_e4m3fn"]
SPECS = {
    "mx": QuantSpec(fmt=FORMATS["mxfp4"]),
    "nvfp4": QuantSpec(fmt=FORMATS["nvfp4"]),
    "tensor": QuantSpec(fmt=E4M3, granularity=PER_TENSOR),
    "token": QuantSpec(fmt=E4M3, granularity=PER_TOKEN),
    "group": QuantSpec(fmt=E4M3, granularity=per_group(16)),
}


@pytest.mark.parametrize("name", SPECS)
def test_both_factors_are_quantized_along_k(name: str) -> None:
    spec = SPECS[name]
    got = QuantMatmul(InputScheme(activation=spec))(X, Y)
    y = fake_quantize(Y.transpose(-2, -1).contiguous(), spec).transpose(-2, -1)
    assert torch.equal(got, fake_quantize(X, spec) @ y.contiguous())


def test_factors_and_product_are_rounded() -> None:
    bf16 = FORMATS["bfloat16"]
    assert isinstance(bf16, FloatFormat)
    elementwise = Elementwise(fmt=bf16)
    spec = SPECS["mx"]
    got = QuantMatmul(InputScheme(activation=spec, elementwise=elementwise))(X, Y)
    x, y = round_elementwise(X, elementwise), round_elementwise(Y, elementwise)
    want = fake_quantize(x, spec) @ fake_quantize(y, spec.transposed())
    assert torch.equal(got, round_elementwise(want, elementwise))


def test_gradients_go_straight_through() -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    product = QuantMatmul(InputScheme(activation=SPECS["mx"]))
    product(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(x.grad, torch.ones(2, 3, 5, 4) @ fake_quantize(Y, SPECS["mx"].transposed()).transpose(-2, -1))


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"factors are matrices or batches of them, got shapes \(40,\) and \(40, 4\)"):
        QuantMatmul(InputScheme(activation=SPECS["mx"]))(X[0, 0, 0], Y[0, 0])
