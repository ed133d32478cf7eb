"""Which layers are fed the same, and which norms make that alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from incref.calibration.sources import Sources, find_sources


class Scaled(nn.Module):
    """A norm with 1 + weight, which is not proportional to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt() * (1 + self.weight)


class Net(nn.Module):
    def __init__(self, norm: nn.Module, use: Callable[["Net", Tensor], object]) -> None:
        super().__init__()
        self.norm, self.a, self.b, self.c = norm, nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.use = use

    def forward(self, x: Tensor) -> object:
        return self.use(self, x)


def sources(use: Callable[[Net, Tensor], object], norm: nn.Module | None = None, *names: str) -> Sources:
    torch.manual_seed(0)
    norm = nn.LayerNorm(8) if norm is None else norm
    nn.init.uniform_(norm.weight)  # type: ignore[arg-type]  # norms have one
    model = Net(norm, use)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = {name: model.get_submodule(name) for name in names or ("a", "b", "c")}
    found = find_sources(model, layers, lambda: model(torch.randn(2, 3, 8)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return found


def both(net: Net, x: Tensor) -> Tensor:
    h = net.norm(x)
    assert h.shape[-1] == 8
    y: Tensor = net.c(net.a(h) * net.b(h)) + x
    return y


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.LayerNorm(8, bias=False), nn.RMSNorm(8)], ids=str)
def test_a_norm_that_feeds_layers_alone(norm: nn.Module) -> None:
    assert sources(both, norm) == Sources(together=[["a", "b"], ["c"]], norms={"a": "norm"})


def read_by_an_operation(net: Net, x: Tensor) -> Tensor:
    h = net.norm(x)
    y: Tensor = net.a(h) + h
    return y


def returned(net: Net, x: Tensor) -> object:
    h = net.norm(x)
    return net.a(h), {"hidden": h}


def called_twice(net: Net, x: Tensor) -> Tensor:
    y: Tensor = net.a(net.norm(x)) + net.b(net.norm(x))
    return y


def through_a_view(net: Net, x: Tensor) -> Tensor:
    y: Tensor = net.a(net.norm(x).flatten(0, 1))
    return y


@pytest.mark.parametrize("use", [read_by_an_operation, returned, called_twice, through_a_view])
def test_a_norm_that_others_read(use: Callable[[Net, Tensor], object]) -> None:
    assert sources(use).norms == {}


def test_a_norm_that_another_layer_reads() -> None:
    assert sources(both, None, "a", "c").norms == {}


def test_a_norm_that_its_weight_does_not_scale() -> None:
    assert sources(both, Scaled()).norms == {}


def test_a_weight_that_is_shared() -> None:
    def use(net: Net, x: Tensor) -> object:
        return both(net, x)

    torch.manual_seed(0)
    model = Net(nn.LayerNorm(8), use)
    model.other = nn.LayerNorm(8)
    model.other.weight = model.norm.weight  # type: ignore[union-attr]  # a norm has one
    layers = {name: model.get_submodule(name) for name in ("a", "b", "c")}
    assert find_sources(model, layers, lambda: model(torch.randn(2, 8))).norms == {}


def test_inputs_that_are_written_to_are_others() -> None:
    def use(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        x.add_(1)
        z: Tensor = y + net.b(x) + net.c(x)
        return z

    assert sources(use).together == [["a"], ["b", "c"]]
