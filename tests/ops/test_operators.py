"""Operations as operators of PyTorch: what they promise, and the bits of eager mode in one graph."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.backends.discovery import find_backend
from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import FORMATS, BlockFormat, ScaleOrder
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import Granularity
from incref.ops import dequantize_affine, fp8_matmul, int8_matmul, pack, quantize_affine, quantize_float, quantize_mx
from incref.ops import operator as operator_module
from incref.ops.operator import _encoded, _parameters, operator
from incref.ops.table import OPS

ROW = Granularity(block=(-1,))
X = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
INT8, INT8_SCALE, *_ = quantize_affine(X, "int8", granularity=ROW)
INT4, INT4_SCALE, *_ = quantize_affine(X, "int4", granularity=ROW)
E4M3, E4M3_SCALE = quantize_float(X, "e4m3fn", granularity=ROW)
MX, MX_SCALE, *_ = quantize_mx(X, "mxfp4")

CALLS: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
    "encode": ((X, "e4m3fn"), {}),
    "decode": ((E4M3, "e4m3fn"), {}),
    "compute_scale": ((X, "int8", ROW), {}),
    "quantize_affine": ((X, "int8"), {"granularity": ROW, "symmetric": False}),
    "dequantize_affine": ((INT8, INT8_SCALE), {"granularity": ROW, "dtype": torch.bfloat16}),
    "quantize_float": ((X, "e4m3fn", E4M3_SCALE), {"granularity": ROW}),
    "dequantize_float": ((E4M3, E4M3_SCALE, "e4m3fn"), {"granularity": ROW}),
    "quantize_mx": ((X, "mxfp4"), {}),
    "dequantize_mx": ((MX, MX_SCALE, "mxfp4"), {}),
    "cast": ((X, "e4m3fn"), {}),
    "fake_quantize_affine": ((X, "int8"), {"granularity": ROW}),
    "fake_quantize_float": ((X, "e4m3fn"), {"granularity": ROW}),
    "fake_quantize_mx": ((X, "mxfp8_e4m3"), {}),
    "pack": ((INT4, "int4"), {"layout": PackLayout.BYTES}),
    "unpack": ((pack(INT4, "int4", layout=PackLayout.BYTES), "int4"), {"layout": PackLayout.BYTES, "length": 64}),
    "int8_matmul": ((INT8, INT8, INT8_SCALE, INT8_SCALE), {"x_granularity": ROW, "w_granularity": ROW}),
    "weight_only_matmul": ((X, INT4, INT4_SCALE, "int4"), {"granularity": ROW}),
    "fp8_matmul": (
        (E4M3, E4M3, E4M3_SCALE, E4M3_SCALE),
        {"x_fmt": "e4m3fn", "w_fmt": "e4m3fn", "x_granularity": ROW, "w_granularity": ROW},
    ),
    "fp8_bmm": (
        (E4M3[:2].view(2, 2, 32), E4M3[2:].view(2, 32, 2), None, None),
        {"x_fmt": "e4m3fn", "y_fmt": "e4m3fn", "dtype": torch.bfloat16},
    ),
    "fp8_conv2d": (
        (E4M3.view(1, 4, 8, 8), E4M3[:, :36].reshape(4, 4, 3, 3), None, None),
        {"x_fmt": "e4m3fn", "w_fmt": "e4m3fn"},
    ),
    "mx_matmul": ((MX, MX, MX_SCALE, MX_SCALE), {"x_fmt": "mxfp4", "w_fmt": "mxfp4"}),
    "gptq_update": ((X[:, :8].contiguous(), torch.eye(8), INT8_SCALE, "int8"), {"granularity": ROW}),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def backend_of(name: str, op: str) -> Callable[..., object]:
    """What computes `op` on the backend, and in a graph is one operator."""
    table = find_backend(name)
    if (why := table.why_unavailable()) is not None or op not in table.kernels:
        pytest.skip(why or f"{name} has no kernel for {op}")
    return table.kernels[op].fn


def graph_of(
    function: Callable[..., object], *args: object, dynamic: bool | None = None
) -> tuple[object, list[object]]:
    """What one graph of `function` gives, and what it calls."""
    calls = []

    def keep(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        calls.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph

    return torch.compile(function, fullgraph=True, backend=keep, dynamic=dynamic)(*args), calls


def assert_same(got: object, want: object) -> None:
    gots, wants = (x if isinstance(x, tuple) else (x,) for x in (got, want))
    for one, other in zip(gots, wants, strict=True):
        assert_same_bits(one, other)


def test_every_operation_is_called_here() -> None:
    assert set(CALLS) == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_operators_keep_their_promises(name: str) -> None:
    args, kwargs = CALLS[name]
    bound = inspect.signature(OPS[name].reference).bind(*args, **kwargs)
    bound.apply_defaults()
    given = [_encoded(bound.arguments[key]) for key in _parameters(OPS[name].reference)]
    # What remains traces each reference once more, with symbols for shapes; see below for one that has them.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator(OPS[name], "reference", OPS[name].reference), (*given, None), test_utils=checks)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_graphs_call_kernels_that_give_the_bits_of_eager_mode(backend: str, name: str) -> None:
    fn = backend_of(backend, name)
    args, kwargs = CALLS[name]
    function = OPS[name].on(backend, fallback="reference")
    want = function(*args, **kwargs)
    got, calls = graph_of(lambda *given: function(*given, **kwargs), *args)
    is_whole = find_backend(backend).keeps_whole(find_backend(backend).kernels[name])
    assert (operator(OPS[name], backend, fn) in calls) == is_whole
    assert_same(got, want)


@pytest.mark.parametrize("name", ["weight_only_matmul", "fp8_matmul", "fp8_bmm", "fp8_conv2d", "mx_matmul"])
def test_references_that_look_at_values_stay_whole(name: str) -> None:
    args, kwargs = CALLS[name]
    for function in (OPS[name], OPS[name].on("reference")):
        got, calls = graph_of(lambda *given, call=function: call(*given, **kwargs), *args)
        assert operator(OPS[name], "reference", OPS[name].reference) in calls
        assert_same(got, OPS[name](*args, **kwargs))


def test_only_what_looks_at_values_stays_whole() -> None:
    args, kwargs = CALLS["int8_matmul"]
    for order in (ScaleOrder.EXACT, ScaleOrder.X_THEN_W):
        got, calls = graph_of(lambda *given, order=order: int8_matmul(*given, **kwargs, order=order), *args)
        is_whole = operator(int8_matmul, "reference", int8_matmul.reference) in calls
        assert is_whole == (order is ScaleOrder.EXACT)
        assert_same(got, int8_matmul(*args, **kwargs, order=order))


def test_references_stay_whole_where_compilers_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_module, "_CONTRACTED", ("cpu",))
    got, calls = graph_of(lambda x: quantize_mx(x, "mxfp4"), X)
    assert operator(quantize_mx, "reference", quantize_mx.reference) in calls
    assert_same(got, (MX, MX_SCALE))
    # Where a scale needs a gradient the reference is traced, and gives it.
    scale = INT8_SCALE.clone().requires_grad_()
    found, calls = graph_of(lambda scale: dequantize_affine(INT8, scale, granularity=ROW).sum(), scale)
    assert operator(dequantize_affine, "reference", dequantize_affine.reference) not in calls
    assert isinstance(found, Tensor)
    found.backward()
    assert scale.grad is not None
    assert torch.equal(scale.grad, INT8.sum(1, keepdim=True).to(torch.float32))


@pytest.mark.parametrize("name", ["weight_only_matmul", "fp8_matmul", "mx_matmul"])
def test_graphs_hold_what_kernels_take_beside_the_contract(name: str) -> None:
    fn = backend_of("triton", name)
    args, kwargs = CALLS[name]
    x, w, *rest = args
    assert isinstance(w, Tensor)
    stacked = [x, torch.stack([w, w]), *rest]
    scale = 2 if name == "weight_only_matmul" else 3
    one = stacked[scale]
    assert isinstance(one, Tensor)
    stacked[scale] = torch.stack([one, one])
    ends = torch.tensor([1, 3], dtype=torch.int32)
    function = OPS[name].on("triton")
    got, calls = graph_of(lambda *given: function(*given, **kwargs, ends=ends), *stacked)
    assert operator(OPS[name], "triton", fn) in calls
    assert_same(got, function(*stacked, **kwargs, ends=ends))
    with pytest.raises(Exception, match="a graph can't hold its tile; leave it out"):
        graph_of(lambda *given: function(*given, **kwargs, tile="64 x 64"), *args)


def test_a_format_that_is_not_in_the_table_is_traced_or_declined() -> None:
    backend_of("cpu", "quantize_mx")
    own = replace(FORMATS["mxfp4"], block_size=16)
    assert isinstance(own, BlockFormat)
    falling_back = quantize_mx.on("cpu", fallback="reference")
    got, calls = graph_of(lambda x: falling_back(x, own), X)
    assert operator(quantize_mx, "cpu", find_backend("cpu").kernels["quantize_mx"].fn) not in calls
    assert_same(got, quantize_mx(X, own))
    declining = quantize_mx.on("cpu")
    with pytest.raises(Exception, match="mxfp4 is not in the table as it is here"):
        graph_of(lambda x: declining(x, own), X)


def test_kernels_decline_when_a_graph_runs() -> None:
    backend_of("triton", "int8_matmul")
    args, kwargs = CALLS["int8_matmul"]
    given = {**kwargs, "order": ScaleOrder.EXACT}
    falling_back, declining = (int8_matmul.on("triton", fallback=one) for one in ("reference", None))
    got, _ = graph_of(lambda *given_args: falling_back(*given_args, **given), *args)
    assert_same(got, int8_matmul(*args, **given))
    with pytest.raises(UnsupportedError, match="on backend 'triton' declines these arguments"):
        graph_of(lambda *given_args: declining(*given_args, **given), *args)


def test_one_graph_takes_any_shape() -> None:
    backend_of("cpu", "quantize_mx")
    function, graphs = quantize_mx.on("cpu"), []

    def count(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(lambda x: function(x, "mxfp4"), fullgraph=True, backend=count, dynamic=True)
    for rows, columns in ((4, 64), (3, 96), (8, 128)):
        x = X.repeat(2, 2)[:rows, :columns].contiguous()
        assert_same(compiled(x), quantize_mx(x, "mxfp4"))
    assert len(graphs) == 1


def test_what_needs_a_gradient_is_given_none_as_by_kernels() -> None:
    backend_of("cpu", "dequantize_affine")
    function, scale = dequantize_affine.on("cpu"), INT8_SCALE.clone().requires_grad_()
    eager = function(INT8, scale, granularity=ROW)
    got, _ = graph_of(lambda scale: function(INT8, scale, granularity=ROW), scale)
    assert isinstance(got, Tensor)
    assert not eager.requires_grad
    assert not got.requires_grad


def test_results_are_written_where_they_are_asked_for() -> None:
    backend_of("cpu", "cast")
    function, x = OPS["cast"].on("cpu"), X.clone()
    got, _ = graph_of(lambda x: function(x, "e4m3fn", out=x), x)
    assert isinstance(got, Tensor)
    assert got.data_ptr() == x.data_ptr()
    assert_same(x, OPS["cast"](X, "e4m3fn"))
    with pytest.raises(Exception, match="out must have the dtype of x"):
        graph_of(lambda x, out: function(x, "e4m3fn", out=out), X, X.to(torch.bfloat16))


def test_arguments_are_those_of_the_operation() -> None:
    function = fp8_matmul.on("reference")
    for wrong in ({"x_format": "e4m3fn"}, {}):
        with pytest.raises(Exception, match=r"fp8_matmul (takes x, w|needs x_fmt)"):
            graph_of(lambda x, wrong=wrong: function(x, x, None, None, w_fmt="e4m3fn", **wrong), E4M3)
