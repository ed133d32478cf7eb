from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from incref.config.schemes import SCHEMES
from incref.conformance.implementation import Implementation
from incref.conformance.result import Status
from incref.conformance.run import run
from incref.formats import FORMATS, IntFormat, ScaleOrder, get_format
from incref.modules.binding import Binding
from incref.modules.linear import QuantLinear
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.ops import gptq_update, int8_matmul, quantize_affine, quantize_float, quantize_mx, weight_only_matmul
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec
from incref.workflow.quantize import quantize
from incref_kernels.cpu import BACKEND, stored_weight, weight_product
from incref_kernels.cpu import int8_matmul as int8_module
from incref_kernels.cpu.processor import has_look_up

pytestmark = pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite")

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(300, 96, generator=GENERATOR)
X = torch.randn(2, 3, 96, generator=GENERATOR)
B = torch.randn(300, generator=GENERATOR)
BOUND = 96 * 2.0**-23 * (X.abs() @ W.abs().T + B.abs()).max()


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few rows, the last one ragged, and products of integers on any processor."""
    monkeypatch.setattr(weight_product, "_TILE", 96 * 7 * 4)
    monkeypatch.setattr(int8_module, "multiplies_int8_exactly", lambda: True)


@pytest.mark.parametrize("few", [0, 16])
@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_TOKEN, per_group(32), per_group(-1, -2), per_block((128, 32))])
@pytest.mark.parametrize("fmt", ["int4", "uint8"])
def test_integers_of_every_granularity(
    fmt: str, granularity: Granularity, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_product, "_FEW_ROWS", few)
    found = get_format(fmt)
    assert isinstance(found, IntFormat)
    codes, scale, *zero = quantize_affine(W, fmt, granularity=granularity, symmetric=found.is_signed)
    arguments = (X, codes, scale, fmt, *zero)
    got = weight_only_matmul.on(BACKEND)(*arguments, granularity=granularity, bias=B)
    assert (got - weight_only_matmul(*arguments, granularity=granularity, bias=B)).abs().max() <= 2 * BOUND


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_floats_and_blocks_in_every_dtype(dtype: torch.dtype) -> None:
    codes, scale = quantize_float(W, "e4m3fn", granularity=per_block((128, 128)))
    got = weight_only_matmul.on(BACKEND)(X.to(dtype), codes, scale, "e4m3fn", granularity=per_block((128, 128)))
    want = weight_only_matmul(X.to(dtype), codes, scale, "e4m3fn", granularity=per_block((128, 128)))
    slack = torch.finfo(dtype).eps * want.abs() + 2 * BOUND
    assert got.dtype is dtype
    assert ((got.float() - want.float()).abs() <= slack).all()
    codes, scale, tensor_scale = quantize_mx(W, "nvfp4")
    got = weight_only_matmul.on(BACKEND)(X.to(dtype), codes, scale, "nvfp4", tensor_scale=tensor_scale)
    want = weight_only_matmul(X.to(dtype), codes, scale, "nvfp4", tensor_scale=tensor_scale)
    assert ((got.float() - want.float()).abs() <= slack + torch.finfo(dtype).eps * want.abs()).all()


@pytest.mark.parametrize("order", [order for order in ScaleOrder if order is not ScaleOrder.EXACT])
@pytest.mark.parametrize("x_dtype", [torch.int8, torch.uint8])
def test_products_of_integers_have_the_bits_of_the_reference(x_dtype: torch.dtype, order: ScaleOrder) -> None:
    info = torch.iinfo(x_dtype)
    x = torch.randint(info.min, info.max + 1, (2, 9, 96), generator=GENERATOR).to(x_dtype)
    w = torch.randint(-128, 128, (20, 96), generator=GENERATOR).to(torch.int8)
    assert torch.equal(int8_matmul.on(BACKEND)(x, w), int8_matmul(x, w))
    scales = (torch.rand(2, 9, 1, generator=GENERATOR), torch.rand(20, 1, generator=GENERATOR))
    zeros: dict[str, Tensor] = {
        "x_zero_point": torch.randint(info.min, info.max, (2, 9, 1), generator=GENERATOR).to(torch.int32),
        "w_zero_point": torch.randint(-128, 127, (20, 1), generator=GENERATOR).to(torch.int32),
    }
    options = {"x_granularity": PER_TOKEN, "w_granularity": PER_TOKEN, "bias": B[:20], "order": order, **zeros}
    for dtype in (torch.float32, torch.bfloat16):
        got = int8_matmul.on(BACKEND)(x, w, *scales, **options, dtype=dtype)
        assert torch.equal(got, int8_matmul(x, w, *scales, **options, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_TOKEN])
def test_sums_are_scaled_in_one_pass(granularity: Granularity, columns: int, dtype: torch.dtype) -> None:
    x = torch.randint(0, 256, (5, 64), generator=GENERATOR).to(torch.uint8)
    w = torch.randint(-128, 128, (columns, 64), generator=GENERATOR).to(torch.int8)
    shape = granularity.scale_shape(x.shape)
    found: dict[str, Tensor] = {
        "x_scale": torch.rand(shape, generator=GENERATOR),
        "w_scale": torch.rand(columns, 1, generator=GENERATOR),
        "x_zero_point": torch.randint(0, 256, shape, generator=GENERATOR).to(torch.int32),
        "bias": B[:columns].to(torch.bfloat16),
    }
    granularities = {"x_granularity": granularity, "w_granularity": PER_TOKEN}
    for count in range(1, len(found) + 1):
        for names in combinations(found, count):
            given: dict[str, Any] = {name: found[name] for name in names} | granularities
            got = int8_matmul.on(BACKEND)(x, w, **given, dtype=dtype)
            assert torch.equal(got, int8_matmul(x, w, **given, dtype=dtype)), names


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 16), (3, 16), (17, 5), (64, 64)])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_sums_of_few_products_are_those_of_the_reference(length: int, rows: int, columns: int) -> None:
    x = torch.randint(-128, 128, (rows, length), generator=GENERATOR).to(torch.int8)
    w = torch.randint(-128, 128, (columns, length), generator=GENERATOR).to(torch.int8)
    assert torch.equal(int8_matmul.on(BACKEND)(x, w), int8_matmul(x, w))


@pytest.mark.parametrize("op", ["int8_matmul", "weight_only_matmul", "gptq_update"])
def test_conforms(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_product, "_TILE", 1 << 24)
    outcome = run(Implementation.of_backend(BACKEND), level=0, ops=[op])
    found = {one.key: one.reason for one in outcome.results if one.status not in (Status.PASS, Status.NOT_SUPPORTED)}
    assert not found
    assert any(one.status is Status.PASS for one in outcome.results)


@pytest.mark.parametrize("scheme", ["int8_dynamic", "int4_g32", "int4_asym_g128", "mxfp4", "fp8_e4m3_w8a8"])
def test_layers_compute_by_it_in_one_graph(scheme: str) -> None:
    torch.compiler.reset()
    model = quantize(nn.Sequential(nn.Linear(96, 40)), SCHEMES[scheme], backend="cpu")
    layer = model[0]
    assert isinstance(layer, QuantLinear)
    assert layer.kernel == ("cpu int8_matmul" if scheme == "int8_dynamic" else "cpu weight_only_matmul")
    with torch.no_grad():
        want = layer(X)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(X), want)


@pytest.mark.parametrize("few", [0, 16])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32)),
        QuantSpec(fmt=FORMATS["uint2"], granularity=per_group(64), symmetric=False),
        QuantSpec(fmt=FORMATS["int8"], granularity=PER_TOKEN),
        QuantSpec(fmt=FORMATS["float8_e5m2"], granularity=PER_TENSOR),
        *(QuantSpec(fmt=FORMATS[name]) for name in ("mxfp4", "nvfp4", "mxfp6_e3m2")),
    ],
    ids=lambda spec: spec.fmt.name,
)
def test_layers_have_the_product_of_their_weight(
    spec: QuantSpec, rows: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_product, "_FEW_ROWS", few)
    layer = QuantLinear(QTensor.quantize(W[:, :64], spec), B)
    layer.bind(Binding(backend="cpu"))
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(rows, 64, generator=GENERATOR).to(dtype)
        weight = layer.qweight.dequantize().to(dtype)
        want = x.double() @ weight.double().T + B.to(dtype).double()
        slack = 2 * torch.finfo(dtype).eps * want.abs() + 2 * BOUND
        assert ((layer(x).double() - want).abs() <= slack).all()


@pytest.mark.parametrize("looks_up", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(fmt=FORMATS["int4"], granularity=per_group(128)),
        QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(64), symmetric=False),
        QuantSpec(fmt=FORMATS["uint2"], granularity=per_group(256), symmetric=False),
        QuantSpec(fmt=FORMATS["int2"], granularity=per_group(64)),
        QuantSpec(fmt=FORMATS["mxfp4"]),
    ],
    ids=lambda spec: spec.fmt.name,
)
def test_every_weight_has_its_bits_however_it_is_read(
    spec: QuantSpec, dtype: torch.dtype, looks_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if looks_up and not has_look_up():
        pytest.skip("no AVX-512")
    monkeypatch.setattr(stored_weight, "has_look_up", lambda: looks_up)
    stored_weight.read_weight.cache_clear()
    w = torch.randn(37, 256, generator=GENERATOR)
    layer = QuantLinear(QTensor.quantize(w, spec))
    layer.bind(Binding(backend="cpu"))
    want = layer.qweight.dequantize().to(dtype).T
    x = torch.eye(256, dtype=dtype)
    # As many rows as are multiplied at once, fewer, one, and so many that the weight is stored.
    for first, last in ((0, 16), (16, 19), (19, 20), (20, 256)):
        assert torch.equal(layer(x[first:last]), want[first:last])
    stored_weight.read_weight.cache_clear()


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (0, 0), (17, 3)])
def test_blocks_of_any_extent(shape: tuple[int, int]) -> None:
    rows, columns = shape
    w, upper = torch.randn(shape, generator=GENERATOR), torch.eye(columns) + 0.5
    arguments = (w, upper, torch.ones(rows, min(columns, 1)), "int4")
    for got, want in zip(gptq_update.on(BACKEND)(*arguments), gptq_update(*arguments), strict=True):
        assert got.dtype is want.dtype
        assert torch.equal(got, want)


def test_says_what_it_declines() -> None:
    codes, scale = quantize_affine(W, "int8", granularity=PER_TOKEN)
    why_not = BACKEND.kernels["weight_only_matmul"].why_not
    assert why_not(X.to(torch.float64), codes, scale, "int8") == (
        "it multiplies float32, bfloat16 and float16, got torch.float64"
    )
    assert "takes none of float64" in str(why_not(X, codes, scale.double(), "int8"))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert "products of float32 are rounded here" in str(why_not(X, codes, scale, "int8"))
    finally:
        torch.set_float32_matmul_precision(before)
