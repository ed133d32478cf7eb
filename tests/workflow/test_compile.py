"""Converted models as one graph of `torch.compile`, on every backend: the bits of eager mode."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref import (
    DynamicQuantConfig,
    FP8Config,
    GPTQConfig,
    INT8StaticQuantConfig,
    MXQuantConfig,
    RTNConfig,
    convert,
    prepare,
    prepare_qat,
)
from incref.backends.discovery import find_backend
from incref.config.base import BaseConfig
from incref.errors import UnsupportedError
from incref.modules.binding import Binding
from incref.modules.linear import QuantLinear

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 5, 64, generator=GENERATOR)


class Block(nn.Module):
    """A layer of a transformer: attention by two heads, and a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 96), nn.Linear(96, 64)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = torch.softmax(q @ k.mT / 32**0.5, -1) @ v
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def mx_of_one() -> BaseConfig:
    """Of one of the layers, since each takes the tracer as long as all of another configuration."""
    return MXQuantConfig().set_local("qkv|out|up", RTNConfig(dtype="fp32"))


CONFIGS: dict[str, Callable[[], BaseConfig]] = {
    "rtn": lambda: RTNConfig(bits=4, group_size=32),
    "gptq": lambda: GPTQConfig(bits=4, group_size=32, act_order=True),
    "fp8": lambda: FP8Config(fp8_config="E4M3"),
    "mx": mx_of_one,
    "int8_static": INT8StaticQuantConfig,
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def converted(name: str, backend: str) -> nn.Module:
    """A converted block, whose layers compute by the backend."""
    if backend != "reference" and (why := find_backend(backend).why_unavailable()) is not None:
        pytest.skip(why)
    torch.manual_seed(0)
    prepared = prepare(Block().eval(), CONFIGS[name]())
    with torch.no_grad():
        prepared(X)
    try:
        model = convert(prepared, backend=backend)
    except UnsupportedError as error:
        pytest.skip(str(error))
    kernels = {layer.kernel for layer in model.modules() if isinstance(layer, QuantLinear)}
    assert all(kernel.startswith(backend) for kernel in kernels)
    assert kernels
    return model


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_block_is_one_graph_with_the_bits_of_eager_mode(name: str, backend: str) -> None:
    model = converted(name, backend)
    with torch.no_grad():
        want = model(X)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(X), want)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_kernels_have_their_bits_amid_compiled_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = converted("rtn", "triton")
    layers = nn.Sequential(model.up, nn.ReLU(), model.down)
    with torch.no_grad():
        assert torch.equal(torch.compile(layers, fullgraph=True)(X), layers(X))


# PyTorch warns about what its own compiler does with a torch.autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("name", "backend"), [("rtn", "reference"), ("fp8", "cpu")])
def test_gradients_of_graphs_are_those_of_eager_mode(name: str, backend: str) -> None:
    model = converted(name, backend)
    for layer in model.modules():
        if isinstance(layer, QuantLinear):
            layer.bind(Binding(backend=backend, fallback="reference"))
    want, got = (X.clone().requires_grad_() for _ in range(2))
    model(want).square().sum().backward()
    torch.compile(model, fullgraph=True, backend="aot_eager")(got).square().sum().backward()
    assert want.grad is not None
    assert got.grad is not None
    assert torch.equal(got.grad, want.grad)


# Likewise.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_training_in_a_graph_is_training_in_eager_mode() -> None:
    gradients = []
    for wrap in (lambda model: model, lambda model: torch.compile(model, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        model = prepare_qat(nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 8)), DynamicQuantConfig())
        wrap(model)(X).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert torch.equal(one, other)
