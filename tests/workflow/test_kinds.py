"""Layers that are no `nn.Linear`: convolutions, and the `Conv1D` of transformers."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_grouped import gptq_grouped
from incref.calibration.hessian import Hessian
from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.method import GPTQ
from incref.config.mx import MXQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import LayerError
from incref.modules.conv import QuantConv2d
from incref.modules.geometry import Geometry
from incref.modules.input import InputQuantizer
from incref.modules.linear import QuantLinear
from incref.modules.patches import Patches
from incref.workflow.load import load
from incref.workflow.quantize import quantize
from incref.workflow.save import save

IMAGES = [torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(i)) for i in range(3)]


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4, padding_mode="reflect")
    )
    return model.eval()


@torch.no_grad()
def feed(prepared: nn.Module) -> None:
    for image in IMAGES:
        prepared(image)


@torch.no_grad()
@pytest.mark.parametrize("config", [GPTQConfig(group_size=16), GPTQConfig(dtype="mxfp4")], ids=["int4", "mxfp4"])
def test_convolutions_are_quantized_by_their_patches(config: GPTQConfig, tmp_path: Path) -> None:
    before = convolutions()
    after = quantize(copy.deepcopy(before), config, feed)
    scheme = config.scheme()
    assert scheme is not None
    assert isinstance(scheme.method, GPTQ)
    inputs = {0: IMAGES, 2: [before[1](before[0](image)) for image in IMAGES]}
    for index, images in inputs.items():
        layer, made = before[index], after.get_submodule(str(index))
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(made, QuantConv2d)
        patches = Patches(geometry=Geometry.of(layer), kernel_size=(3, 3), quantizer=InputQuantizer())
        hessian = Hessian(patches(images[0]).shape[-1], images[0].device, layer.groups)
        for image in images:
            hessian.add(patches(image))
        find = gptq_grouped if layer.groups > 1 else gptq
        want = find(layer.weight.flatten(1), hessian.total, scheme.weight, scheme.method).qweight
        assert torch.equal(made.qweight.dequantize(), want.dequantize())
        twin = copy.deepcopy(layer)
        twin.weight.copy_(want.dequantize().view_as(layer.weight))
        assert torch.equal(made(images[0]), twin(images[0]))
    save(after, tmp_path / "saved")
    loaded = load(tmp_path / "saved", convolutions())
    assert torch.equal(loaded(IMAGES[0]), after(IMAGES[0]))
    assert repr(loaded) == repr(after)
    assert "(0): QuantConv2d(4, 8, kernel_size=(3, 3)" in repr(loaded)


def test_an_order_for_every_group_of_channels_is_refused() -> None:
    with pytest.raises(LayerError, match=r"2: each of its 4 groups of channels .* set static_groups=True"):
        quantize(convolutions(), GPTQConfig(group_size=4, act_order=True), feed)
    quantize(convolutions(), GPTQConfig(group_size=4, act_order=True, static_groups=True), feed)


class Twins(nn.Module):
    """The same layer as a `Conv1D` and as an `nn.Linear`."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.pytorch_utils import Conv1D  # noqa: PLC0415  # an optional dependency

        torch.manual_seed(0)
        self.conv, self.linear = Conv1D(12, 40), nn.Linear(40, 12)
        with torch.no_grad():
            self.conv.weight.normal_()
            self.conv.bias.normal_()
            self.linear.weight.copy_(self.conv.weight.T)
            self.linear.bias.copy_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x) + self.linear(x)
        return result


@pytest.mark.parametrize(
    "config",
    [
        RTNConfig(group_size=32),
        RTNConfig(use_sym=False, group_dim=0),
        RTNConfig(dtype="mxfp4"),
        GPTQConfig(group_size=16, act_order=True),
        GPTQConfig(dtype="nvfp4"),
        MXQuantConfig(),
    ],
    ids=lambda config: f"{type(config).__name__}-{config.to_dict().get('dtype')}",
)
def test_a_conv1d_becomes_what_the_linear_layer_does(config: BaseConfig, tmp_path: Path) -> None:
    pytest.importorskip("transformers")

    def run(prepared: nn.Module) -> None:
        for seed in range(3):
            prepared(torch.randn(8, 40, generator=torch.Generator().manual_seed(seed)))

    model = quantize(Twins(), config, run)
    conv, linear = model.get_submodule("conv"), model.get_submodule("linear")
    assert isinstance(conv, QuantLinear)
    assert isinstance(linear, QuantLinear)
    mine, theirs = conv.qweight.to_tensors(), linear.qweight.to_tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    save(model, tmp_path / "saved")
    x = torch.randn(2, 40)
    assert torch.equal(load(tmp_path / "saved", Twins())(x), model(x))
