"""`weight_only_matmul` compiled for the CPU: probes bit for bit, other values within the bound."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.aot.targets import TARGETS
from conformance.device_cases import Where
from conformance.matmul_cases import EveryWeightCase, MatmulShape, WeightOnlyCase
from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import FloatFormat
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TOKEN, per_block, per_group
from incref.ops import weight_only_matmul
from incref_kernels.triton import BACKEND
from incref_kernels.triton.hardware import in_hardware
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.weight_only_matmul import is_apart

RUN = weight_only_matmul.on(BACKEND)
WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=32, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2, is_transposed=True)
SHAPE = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE),), edges=(16, 32, 64))
APART = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE), ("apart", True)), edges=(16, 32, 64))
SPLIT = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE), ("parts", 2)), edges=(16, 32, 64))


@pytest.mark.parametrize(
    "case",
    [
        WeightOnlyCase(shape=SHAPE, granularity=PER_TOKEN),
        WeightOnlyCase(shape=SPLIT, fmt="uint4", granularity=per_group(32), has_bias=True, packed=PackLayout.BYTES),
        WeightOnlyCase(shape=SHAPE, fmt="uint2", groups=4, packed=PackLayout.INT32, dtype=torch.float16),
        WeightOnlyCase(shape=SHAPE, fmt="int4", granularity=per_block((16, 24)), weight_dtype=torch.float16),
        WeightOnlyCase(shape=SHAPE, fmt="int8", granularity=per_group(16), dtype=torch.float32),
        WeightOnlyCase(shape=SHAPE, fmt="mxfp4", packed=PackLayout.BYTES),
        WeightOnlyCase(shape=SHAPE, fmt="nvfp4", has_bias=True),
        WeightOnlyCase(shape=SPLIT, fmt="float8_e4m3fn"),
        WeightOnlyCase(shape=APART, fmt="uint4", granularity=per_group(32), has_bias=True, packed=PackLayout.BYTES),
        WeightOnlyCase(shape=APART, fmt="uint2", groups=4, packed=PackLayout.INT32, dtype=torch.float16),
        WeightOnlyCase(shape=APART, fmt="nvfp4", has_bias=True),
        WeightOnlyCase(shape=APART, fmt="mxfp4", packed=PackLayout.BYTES),
    ],
    ids=lambda case: case.key,
)
def test_probes_and_bound(case: WeightOnlyCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e3m2fn", "float4_e2m1fn"])
def test_every_code_is_read_as_its_value(fmt: str) -> None:
    finding = EveryWeightCase(fmt=fmt).check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2"])
def test_every_code_is_read_as_its_value_by_instructions(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def by_instructions(fmt: FloatFormat, _device: torch.device) -> FloatFormat:
        asked.append(fmt.name)
        return in_hardware(fmt)

    monkeypatch.setattr("incref_kernels.triton.weight_only_matmul.converted", by_instructions)
    finding = EveryWeightCase(fmt=fmt).check(WHERE)
    assert asked
    assert finding.checked
    assert not finding.mismatches, finding.first


def test_weights_are_written_apart_for_many_rows_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(
        "incref_kernels.triton.weight_only_matmul.target_of", lambda _device: TARGETS["sm_90"].launched_on
    )
    assert is_apart(4096, gpu, torch.bfloat16)
    assert not is_apart(4095, gpu, torch.bfloat16)
    assert not is_apart(4096, gpu, torch.float32)


def test_codebooks_are_looked_up() -> None:
    codes = torch.arange(16, dtype=torch.uint8).view(1, 16)
    scale = torch.tensor([[3.0]])
    x = torch.eye(16)
    want = weight_only_matmul(x, codes, scale, "nf4", granularity=PER_TOKEN)
    assert_same_bits(RUN(x, codes, scale, "nf4", granularity=PER_TOKEN), want)


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4"])
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products_with_scales_that_are_asked_for_ahead(shape: tuple[int, int, int], fmt: str) -> None:
    rows, columns, length = shape
    x, codes = torch.zeros(rows, length, dtype=torch.bfloat16), torch.zeros(columns, length, dtype=torch.uint8)
    scale = torch.zeros(columns, 1 if length else 0, dtype=torch.uint8)
    options = {"tensor_scale": torch.ones(())} if fmt == "nvfp4" else {}
    want = weight_only_matmul(x, codes, scale, fmt, **options)  # type: ignore[arg-type]
    assert_same_bits(RUN(x, codes, scale, fmt, **options), want)  # type: ignore[arg-type]
    if columns:
        kernel = BACKEND.kernels["weight_only_matmul"].fn
        assert_same_bits(kernel(x, codes, scale, fmt, apart=True, **options), want)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products(shape: tuple[int, int, int]) -> None:
    rows, columns, length = shape
    x, bias = torch.zeros(rows, length), torch.randn(columns)
    codes = torch.zeros(columns, length, dtype=torch.int8)
    args = (x, codes, torch.tensor(2.0), "int4")
    assert_same_bits(RUN(*args, bias=bias), weight_only_matmul(*args, bias=bias))


def test_what_is_not_finite_stays_where_it_is() -> None:
    """Beyond K a weight is 0, whatever its scale is."""
    x = torch.ones(2, 40, dtype=torch.bfloat16)
    x[1, 39] = torch.nan
    codes = torch.ones(3, 40, dtype=torch.int8)
    scale = torch.tensor([[torch.inf, 1.0], [1.0, torch.inf], [1.0, torch.nan]])
    options = {"granularity": per_group(32), "dtype": torch.float32}
    want = weight_only_matmul(x, codes, scale, "int8", **options)  # type: ignore[arg-type]
    assert_same_bits(RUN(x, codes, scale, "int8", **options), want)  # type: ignore[arg-type]


def test_what_it_declines_and_refuses() -> None:
    x, codes, scale = torch.zeros(2, 64), torch.zeros(3, 64, dtype=torch.uint8), torch.tensor(1.0)
    kernel = BACKEND.kernels["weight_only_matmul"]
    words = torch.zeros(3, 8, dtype=torch.int32)
    assert "fill words in their order" in str(kernel.why_not(x, words, scale, "uint4", packed=PackLayout.AWQ))
    with pytest.raises(UnsupportedError, match="none of float64"):
        RUN(x, codes, scale.double(), "uint4")
    with pytest.raises(ValueError, match="8 words of INT32"):
        kernel.fn(x, words[:, :7], scale, "uint4", packed=PackLayout.INT32)
    with pytest.raises(ValueError, match="apart is for one product of bfloat16 or float16"):
        kernel.fn(x, codes, scale, "uint4", apart=True)
    with pytest.raises(TypeError, match=r"codes of int4 must be torch\.int8"):
        RUN(x, codes, scale, "int4")
    with pytest.raises(ValueError, match="only integer formats have zero points"):
        RUN(x, codes, scale, "float8_e4m3fn", torch.tensor(1, dtype=torch.int32))
    with pytest.raises(ValueError, match="has no tensor_scale"):
        RUN(x, codes, scale, "uint4", tensor_scale=scale)
    with pytest.raises(ValueError, match="g_idx must be from 0 to 1"):
        RUN(x, codes, torch.ones(3, 2), "uint4", g_idx=torch.full((64,), 2))
