import pytest
import torch
from torch import nn

from incref.modules.geometry import Geometry
from incref.modules.input import InputQuantizer
from incref.modules.patches import Patches
from tests.modules.test_conv import CASES


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_weight_times_patches_is_the_convolution(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, (4, 3), **options).double()  # type: ignore[arg-type]  # the cases are right
    x = torch.randn(2, 4, 12, 13, dtype=torch.float64)
    rows = Patches(geometry=Geometry.of(layer), kernel_size=(4, 3), quantizer=InputQuantizer())(x)
    assert rows.shape[2] == layer.groups
    weight = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))  # [groups, N / groups, K]
    product = torch.einsum("bpgk,gnk->bgnp", rows, weight).flatten(1, 2)
    with torch.no_grad():
        want = layer(x) - (0 if layer.bias is None else layer.bias[:, None, None])
    assert torch.allclose(product.view_as(want), want, rtol=0, atol=2.0**-40)


def test_an_image_alone() -> None:
    layer = nn.Conv2d(3, 5, 3)
    patches = Patches(geometry=Geometry.of(layer), kernel_size=(3, 3), quantizer=InputQuantizer())
    x = torch.randn(3, 6, 6)
    assert torch.equal(patches(x), patches(x[None]))
