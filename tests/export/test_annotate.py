"""Which tensors of a captured graph become codes, and what is compiled of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from incref.config.base import BaseConfig
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.export import exact, export, quantize
from incref.workflow.convert import convert
from incref.workflow.prepare import prepare

pytest.importorskip("torchao", reason="captured graphs are quantized by torchao, which is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:copyreg", "ignore::DeprecationWarning:torch.*")

IMAGES = [torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
FLOATS = INT8StaticQuantConfig(w_dtype="fp32")


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert as on a processor whose products are right."""
    monkeypatch.setattr(quantize, "saturates", lambda: False)


class Inner(nn.Module):
    """A product of its own after that of a layer."""

    def __init__(self) -> None:
        """Make the weights."""
        super().__init__()
        self.fc, self.weight = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply twice."""
        return F.linear(self.fc(x), self.weight)


class Net(nn.Module):
    """Layers that a test puts together."""

    def __init__(self, use: Callable[["Net", Tensor], Tensor]) -> None:
        """Make the weights, of which every other one is zero, so that no processor's products saturate."""
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.row, self.fc = nn.Conv1d(8, 8, 3), nn.Linear(8, 8)
        self.inner = Inner()
        self.use = use
        with torch.no_grad():
            for layer in (self.first, self.second, self.fc):
                layer.weight[:, 1::2] = 0

    def forward(self, x: Tensor) -> Tensor:
        """Do what the test says."""
        return self.use(self, x)


@torch.no_grad()
def converted(use: Callable[[Net, Tensor], Tensor], config: BaseConfig | None = None) -> fx.GraphModule:
    prepared = prepare(export(Net(use).eval(), (IMAGES[0],)), config or INT8StaticQuantConfig())
    for batch in IMAGES:
        prepared(batch)
    made = convert(prepared)
    assert isinstance(made, fx.GraphModule)
    return made


def with_codes(graph: fx.GraphModule, operation: str) -> list[int]:
    """How many inputs of each such operation are dequantized codes, in the order of the graph."""
    nodes = [node for node in graph.graph.nodes if str(node.target).startswith(f"aten.{operation}.")]
    return [sum("dequantize_per_tensor" in str(read.target) for read in node.all_input_nodes) for node in nodes]


def block(net: Net, x: Tensor) -> Tensor:
    """What residual networks are made of, once."""
    return F.relu(net.second(F.relu(net.first(x))) + x)


def blocks(net: Net, x: Tensor) -> Tensor:
    return block(net, block(net, F.max_pool2d(F.relu(net.first(x)), 3, 1, 1)))


def shortcut(net: Net, x: Tensor) -> Tensor:
    """A sum of two layers."""
    return F.relu(net.second(F.relu(net.first(x))) + net.first(x))


@pytest.mark.parametrize("use", [block, shortcut])
def test_a_sum_takes_the_codes_of_a_layer(use: Callable[[Net, Tensor], Tensor]) -> None:
    graph = converted(use)
    assert with_codes(graph, "add") == [1]
    assert with_codes(graph, "conv2d") == [1] * (2 if use is block else 3)


def test_a_residual_has_the_codes_that_the_layer_beside_takes() -> None:
    graph = converted(block)
    (total,) = (node for node in graph.graph.nodes if node.target is torch.ops.aten.add.Tensor)
    first = next(node for node in graph.graph.nodes if node.target is torch.ops.aten.conv2d.default)
    taken, added = first.args[0].args, total.args[1].args
    assert added == taken


@pytest.mark.parametrize(
    ("use", "excluded", "left"),
    [
        # What is added belongs to a layer in float: nothing is rounded for the sum alone.
        (shortcut, "first", [0]),
        # The layer whose output the sum would be fused with is in float.
        (block, "second", [0]),
        # Nobody takes codes of x beside the sum.
        (block, "first", [0]),
    ],
)
def test_sums_with_floats_stay_so(use: Callable[[Net, Tensor], Tensor], excluded: str, left: list[int]) -> None:
    graph = converted(use, INT8StaticQuantConfig().set_local(excluded, FLOATS))
    assert with_codes(graph, "add") == left
    layers = with_codes(graph, "conv2d")
    assert 0 in layers
    assert 1 in layers


def test_what_is_not_summed_with_a_convolution_stays_a_float() -> None:
    graph = converted(lambda net, x: net.first(x) + F.relu(net.second(x)))
    assert with_codes(graph, "add") == [0]
    graph = converted(lambda net, x: x[..., 0, :] + net.fc(x[..., 0, :]))
    assert with_codes(graph, "add") == [0]


def test_numbers_are_added_as_they_are() -> None:
    graph = converted(lambda net, x: net.fc(F.relu(net.first(x) + 1)) + 0.5)
    assert with_codes(graph, "add") == [0, 0]
    assert (with_codes(graph, "conv2d"), with_codes(graph, "linear")) == ([1], [1])


@pytest.mark.parametrize(
    ("use", "operation", "codes"),
    [
        (lambda net, x: net.second(F.max_pool2d(F.relu(net.first(x)), 2)), "max_pool2d", [1]),
        (lambda net, x: F.max_pool2d(F.relu(net.first(x)), 2), "max_pool2d", [0]),
        (lambda net, x: net.first(F.max_pool2d(x, 2)), "max_pool2d", [0]),
        (lambda net, x: net.fc(F.max_pool2d(net.first(x), 8).flatten(1)), "flatten", [1]),
        (lambda net, x: net.fc(F.max_pool2d(net.first(x), 8).flatten(1)).exp(), "max_pool2d", [1]),
        (lambda net, x: F.max_pool2d(net.first(x), 8).flatten(1).exp(), "max_pool2d", [0]),
        (lambda net, x: net.first(torch.cat([net.first(x), net.second(x)])), "cat", [2]),
        (lambda net, x: torch.cat([net.first(x), net.second(x)]), "cat", [0]),
        (lambda net, x: net.fc(F.avg_pool2d(net.first(x), 8).flatten(1)), "avg_pool2d", [0]),
        (lambda net, x: net.fc(F.adaptive_avg_pool2d(net.first(x), 1).flatten(1)), "adaptive_avg_pool2d", [0]),
        (lambda net, x: net.first(x) * net.second(x), "mul", [0]),
        (lambda net, x: F.relu(net.row(net.first(x).flatten(2))), "conv1d", [0]),
    ],
)
def test_only_what_moves_codes_takes_them(
    use: Callable[[Net, Tensor], Tensor], operation: str, codes: list[int]
) -> None:
    assert with_codes(converted(use), operation) == codes


def test_inputs_that_every_call_scales_are_not_shared() -> None:
    graph = converted(lambda net, x: net.fc(x[..., 0, :]) + net.first(x)[..., 0, :], DynamicQuantConfig())
    assert with_codes(graph, "add") == [0]
    assert with_codes(graph, "conv2d") == [0]


@pytest.mark.parametrize(
    ("excluded", "codes"), [("inner.fc", [0, 1, 1]), (r"inner(?!\.)", [1, 0, 1]), ("fc", [1, 1, 0])]
)
def test_a_module_and_a_layer_within_it_have_rules_of_their_own(excluded: str, codes: list[int]) -> None:
    config = INT8StaticQuantConfig().set_local(excluded, FLOATS)
    assert with_codes(converted(lambda net, x: net.fc(net.inner(x[..., 0, :])), config), "linear") == codes


@torch.no_grad()
def test_compiled_blocks_are_what_the_graph_says() -> None:
    graph = converted(blocks)
    assert with_codes(graph, "max_pool2d") == [1]
    assert with_codes(graph, "add") == [1, 1]
    want = graph(IMAGES[0])
    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(graph)
        x = IMAGES[0].clone()
        first, second = compiled(x).clone(), compiled(x).clone()
    assert torch.equal(first, second)
    assert torch.equal(x, IMAGES[0])
    # A float that differs in its last bit turns a code here and there: one is a tenth of what all are from the model.
    quantized = want - Net(blocks)(IMAGES[0])
    for got in (first, exact(graph)(x)):
        assert float((got - want).norm() / quantized.norm()) < 0.3
