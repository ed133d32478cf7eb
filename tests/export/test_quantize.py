"""Captured graphs of 8-bit integers: what torchao makes of them, held to `int8_matmul`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.rtn import RTNConfig
from incref.errors import LayerError, LoweringWarning, UnsupportedError
from incref.export import exact, export, quantize
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TOKEN
from incref.ops.int8_matmul import int8_matmul
from incref.ops.quantize_affine import quantize_affine
from incref.workflow.convert import convert
from incref.workflow.prepare import prepare
from incref.workflow.save import save

pytest.importorskip("torchao", reason="captured graphs are quantized by torchao, which is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:copyreg", "ignore::DeprecationWarning:torch.*")

BATCHES = [torch.randn(8, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
X = BATCHES[0]


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert as on a processor whose products are right."""
    monkeypatch.setattr(quantize, "saturates", lambda: False)


def linear(out_features: int = 64) -> nn.Linear:
    """A layer whose products no processor lets saturate: every other weight is zero."""
    torch.manual_seed(0)
    layer = nn.Linear(64, out_features)
    with torch.no_grad():
        layer.weight[:, 1::2] = 0
    return layer


@torch.no_grad()
def converted(model: nn.Module, config: BaseConfig, batches: list[Tensor] = BATCHES) -> fx.GraphModule:
    prepared = prepare(export(model.eval(), (batches[0],)), config)
    for batch in batches:
        prepared(batch)
    made = convert(prepared)
    assert isinstance(made, fx.GraphModule)
    return made


@torch.no_grad()
def test_the_exact_graph_is_int8_matmul() -> None:
    model = nn.Sequential(linear())
    graph = converted(model, INT8StaticQuantConfig(act_algo="minmax"))
    low, high = torch.cat(BATCHES).aminmax()
    scale = (high - low) / 255
    zero_point = torch.round(-low / scale).to(torch.int32)
    weight = model[0].weight
    w_scale = weight.abs().amax(1, keepdim=True) / 127.5
    codes, *_ = quantize_affine(X, "uint8", scale, zero_point)
    w_codes = torch.round(weight * (1 / w_scale)).clamp(-128, 127).to(torch.int8)
    for order in (ScaleOrder.PRODUCT, ScaleOrder.X_THEN_W):
        want = int8_matmul(
            codes,
            w_codes,
            scale,
            w_scale,
            x_zero_point=zero_point,
            w_granularity=PER_TOKEN,
            bias=model[0].bias,
            order=order,
        )
        assert torch.equal(exact(graph, order=order)(X), want)
    # The converted graph itself sums floats: 64 products, each within a few roundings.
    assert torch.allclose(graph(X), want, rtol=0, atol=64 * 2**-23 * float(want.abs().max()))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.view(-1, 1, 8, 8)).flatten(1)
        for block in self.blocks:
            x = x + block(x)
        return x


CONFIGS: dict[str, BaseConfig] = {
    "static": INT8StaticQuantConfig(),
    "symmetric": INT8StaticQuantConfig(act_sym=True, act_algo="mse"),
    "kl": INT8StaticQuantConfig(act_algo="kl", act_dtype="int8"),
    "per tensor": INT8StaticQuantConfig(w_granularity="per_tensor", w_algo="mse", act_algo="percentile"),
    "dynamic": DynamicQuantConfig(),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_graphs_and_modules_agree(config: BaseConfig) -> None:
    """The same ranges, scales and codes: outputs differ by roundings, and by the few codes that these turn."""
    graph = exact(converted(Net(), config), order=ScaleOrder.X_THEN_W)
    modules = prepare(Net().eval(), config)
    for batch in BATCHES:
        modules(batch)
    got, want, before = graph(X), convert(modules)(X), Net()(X)
    assert float((want - before).norm() / before.norm()) < 0.03
    assert float((got - want).norm() / (want - before).norm()) < (
        0.5 if isinstance(config, DynamicQuantConfig) else 0.01
    )


def count(graph: fx.GraphModule, name: str) -> int:
    return sum(name in str(node.target) for node in graph.graph.nodes)


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (INT8StaticQuantConfig(), 3),
        (DynamicQuantConfig(), 2),
        (INT8StaticQuantConfig(white_list=["blocks.1.0"]), 1),
        (INT8StaticQuantConfig().set_local("blocks.0", INT8StaticQuantConfig(w_dtype="fp32")), 2),
        (INT8StaticQuantConfig().set_local(nn.Linear, INT8StaticQuantConfig(w_dtype="fp32")), 1),
    ],
)
def test_rules_speak_of_modules(config: BaseConfig, left: int) -> None:
    graph = exact(converted(Net(), config))
    assert count(graph, "incref.int8") == left
    assert count(graph, "aten.linear") + count(graph, "aten.conv2d") == 3 - left


class Attention(nn.Module):
    """Attention as one function, whose products belong to no module of their own, and a product called likewise."""

    def __init__(self) -> None:
        """Make the weights."""
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Attend to rows of x, and multiply."""
        rows = x.unflatten(0, (2, -1))
        return F.linear(self.attention(rows, rows, rows, need_weights=False)[0], self.weight)


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (INT8StaticQuantConfig(), 0),
        (DynamicQuantConfig(), 0),
        (INT8StaticQuantConfig().set_local("attention", INT8StaticQuantConfig(w_dtype="fp32")), 2),
    ],
)
def test_products_within_functions_are_quantized(
    config: BaseConfig, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In evaluation mode all of it would be one operation.
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    graph = exact(converted(Attention(), config))
    assert count(graph, "incref.int8_linear") == 3 - left
    assert count(graph, "aten.linear") == left


def test_what_is_refused() -> None:
    def attempt(config: BaseConfig) -> None:
        prepare(export(Net().eval(), (X,)), config)

    with pytest.raises(UnsupportedError, match="oneDNN has none; set w_sym=True, or leave export out"):
        attempt(INT8StaticQuantConfig(w_sym=False))
    with pytest.raises(UnsupportedError, match="set act_granularity='per_tensor'"):
        attempt(DynamicQuantConfig(act_granularity="per_token"))
    with pytest.raises(UnsupportedError, match="set act_sym=False"):
        attempt(DynamicQuantConfig(act_sym=True))
    with pytest.raises(UnsupportedError, match="cast the model before export"):
        attempt(INT8StaticQuantConfig(w_dtype="bf16"))
    with pytest.raises(UnsupportedError, match="got FP8Config; quantize the model that it was captured from"):
        attempt(FP8Config())
    with pytest.raises(UnsupportedError, match="quantized to 8-bit integers, not by RTNConfig"):
        attempt(INT8StaticQuantConfig().set_local("conv", RTNConfig()))
    with pytest.raises(ValueError, match=r"every rule must match a layer, and .*convolution.* matches none of conv, "):
        attempt(INT8StaticQuantConfig(white_list=["convolution"]))
    with pytest.raises(LayerError, match="call the prepared model on some batches before convert"):
        convert(prepare(export(Net().eval(), (X,)), INT8StaticQuantConfig()))
    with pytest.raises(ValueError, match="the model is prepared already"):
        prepare(prepare(export(Net().eval(), (X,)), INT8StaticQuantConfig()), INT8StaticQuantConfig())
    with pytest.raises(TypeError, match="only a captured graph can be made exact, got Net"):
        exact(Net())


def test_a_graph_is_saved_by_pytorch(tmp_path: Path) -> None:
    graph = converted(Net(), INT8StaticQuantConfig())
    with pytest.raises(UnsupportedError, match=r"torch\.export\.save"):
        save(graph, tmp_path / "saved")
    program = torch.export.export(exact(graph), (X,))
    torch.export.save(program, tmp_path / "model.pt2")
    assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(X), exact(graph)(X))


def test_a_copy_is_made_if_asked_for() -> None:
    graph = export(Net().eval(), (X,))
    prepared = prepare(graph, INT8StaticQuantConfig(), inplace=False)
    assert count(graph, "activation_post_process") == 0
    prepared(X)
    made = convert(prepared, inplace=False)
    assert torch.equal(made(X), convert(prepared)(X))


def test_a_processor_that_saturates_gets_the_exact_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "saturates", lambda: True)
    with pytest.warns(LoweringWarning, match="this processor has no VNNI"):
        graph = converted(Net(), INT8StaticQuantConfig())
    assert count(graph, "incref.int8") == 3


class Residual(nn.Module):
    """Adds its input, or a tensor of its own, to what a layer makes of it."""

    def __init__(self, use: Callable[["Residual", Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.use = linear(), use
        self.own = nn.Parameter(torch.randn(8, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def with_input(model: Residual, x: Tensor) -> Tensor:
    y: Tensor = x + model.fc(x)
    return y


def with_view(model: Residual, x: Tensor) -> Tensor:
    y: Tensor = F.relu(model.fc(x) + x.view(8, 64).clone())
    return y


def with_parameter(model: Residual, x: Tensor) -> Tensor:
    y: Tensor = model.own + model.fc(x)
    return y


@pytest.mark.parametrize("use", [with_input, with_view, with_parameter])
@torch.no_grad()
def test_compiled_graphs_write_to_nothing_that_they_are_given(use: Callable[[Residual, Tensor], Tensor]) -> None:
    """Inductor with freezing adds a residual in place, also where that is the caller's tensor, or a parameter."""
    model = Residual(use)
    graph = converted(model, INT8StaticQuantConfig())
    want = exact(graph)(X)
    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(graph)
        x = X.clone()
        first = compiled(x).clone()
        second = compiled(x).clone()
    assert torch.equal(x, X)
    assert torch.equal(first, second)
    # The residual is added by a post-op of the product: one rounding fewer or more.
    assert torch.allclose(first, want, rtol=0, atol=2**-22 * float(want.abs().max()))


class ResidualConv(nn.Module):
    """A convolution that is added to its own input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        with torch.no_grad():
            # No processor lets these products saturate: every other weight is zero.
            self.conv.weight[:, 1::2] = 0

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv(x)
        return result


@torch.no_grad()
def test_compiled_convolutions_write_to_nothing_that_they_are_given() -> None:
    images = [torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    graph = converted(ResidualConv(), INT8StaticQuantConfig(), images)
    want = graph(images[0])
    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(graph)
        x = images[0].clone()
        first = compiled(x).clone()
        second = compiled(x).clone()
    assert torch.equal(x, images[0])
    assert torch.equal(first, second)
    # The residual is added by a post-op of the product: one rounding fewer or more.
    assert torch.allclose(first, want, rtol=0, atol=2**-22 * float(want.abs().max()))


@torch.no_grad()
def test_a_compiled_product_is_int8_matmul_bit_for_bit() -> None:
    graph = converted(nn.Sequential(linear(), nn.ReLU()), INT8StaticQuantConfig())
    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):
        got = torch.compile(graph)(X)
    # oneDNN has one order for processors with AVX2, and another one for those with AVX-512 and VNNI.
    orders = (ScaleOrder.PRODUCT, ScaleOrder.X_THEN_W)
    same = [order for order in orders if torch.equal(got, exact(graph, order=order)(X))]
    assert len(same) == 1
    assert torch.equal(torch.compile(exact(graph, order=same[0]))(X), got)
