import torch

from incref.config.schemes import SCHEMES
from incref.modules.input import InputQuantizer
from incref.qtensor.parts import fake_quantize


def test_gradients_go_straight_through() -> None:
    spec = SCHEMES["mxfp4_w4a4"].activation
    assert spec is not None
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = InputQuantizer(activation=spec)(x)
    assert torch.equal(y, fake_quantize(x.detach(), spec))
    y.backward(torch.ones_like(y) * 2)
    assert x.grad is not None
    assert x.grad.unique().tolist() == [2]
