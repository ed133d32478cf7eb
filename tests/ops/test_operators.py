"""Operations as operators of PyTorch: what they promise, and the bits of eager mode in one graph."""

import inspect
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from incref.backends.discovery import find_backend
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import Granularity
from incref.ops import pack, quantize_affine, quantize_float, quantize_mx
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


def test_every_operation_is_called_here() -> None:
    assert set(CALLS) == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_operators_keep_their_promises(name: str) -> None:
    args, kwargs = CALLS[name]
    bound = inspect.signature(OPS[name].reference).bind(*args, **kwargs)
    bound.apply_defaults()
    given = [_encoded(bound.arguments[key]) for key in _parameters(OPS[name].reference)]
    torch.library.opcheck(operator(OPS[name], "reference", OPS[name].reference), (*given, None))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_graphs_call_kernels_that_give_the_bits_of_eager_mode(backend: str, name: str) -> None:
    table = find_backend(backend)
    if (why := table.why_unavailable()) is not None or name not in table.kernels:
        pytest.skip(why or f"{backend} has no kernel for {name}")
    args, kwargs = CALLS[name]
    function = OPS[name].on(backend, fallback="reference")
    graphs = []

    def call(*args: object) -> object:
        return function(*args, **kwargs)

    def keep(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    want = function(*args, **kwargs)
    got = torch.compile(call, fullgraph=True, backend=keep)(*args)
    assert [node.target for node in graphs[0].graph.nodes if node.target is operator(OPS[name], backend, table.kernels[name].fn)]
    wants, gots = (x if isinstance(x, tuple) else (x,) for x in (want, got))
    assert len(wants) == len(gots)
    for one, other in zip(wants, gots, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.equal(one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8))
