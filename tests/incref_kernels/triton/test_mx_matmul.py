"""`mx_matmul` compiled for the CPU: probes bit for bit, other values within the bound."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.device_cases import Where
from conformance.matmul_cases import MatmulShape, MxMatmulCase
from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import ScaleOrder
from incref.ops import mx_matmul
from incref_kernels.triton import BACKEND
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.targets import Factors, Target, accumulator, assuming

RUN = mx_matmul.on(BACKEND)
WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=16, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2)
TURNED = MatmulTile(block_m=32, block_n=16, block_k=32, num_warps=2, num_stages=2, is_transposed=True)
SHAPE = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE),), edges=(16, 32, 64))
OTHER = MatmulShape(rows=19, columns=37, length=64, options=(("tile", TURNED),), edges=(16, 32, 64))
BLOCKS = MatmulTile(block_m=32, block_n=32, block_k=128, num_warps=2, num_stages=1, group_m=2)
TURNED_BLOCKS = MatmulTile(block_m=64, block_n=16, block_k=128, num_warps=4, num_stages=2, is_transposed=True)
LONG = MatmulShape(rows=19, columns=37, length=150, options=(("tile", BLOCKS),), edges=(32, 64, 128))
EVEN = MatmulShape(rows=19, columns=70, length=256, options=(("tile", TURNED_BLOCKS),), edges=(32, 64, 128))
MXFP8 = {"x_fmt": "mxfp8_e4m3", "w_fmt": "mxfp8_e4m3"}


@pytest.mark.parametrize(
    "case",
    [
        MxMatmulCase(shape=SHAPE),
        MxMatmulCase(shape=SHAPE, spread=140),
        MxMatmulCase(shape=OTHER, x_fmt="mxfp8_e5m2", w_fmt="mxfp4", dtype=torch.bfloat16, has_bias=True),
        MxMatmulCase(shape=SHAPE, x_fmt="nvfp4", w_fmt="nvfp4", order=ScaleOrder.X_THEN_W),
        MxMatmulCase(shape=OTHER, x_fmt="mxint8", w_fmt="nvfp4", dtype=torch.float16),
        MxMatmulCase(shape=SHAPE, x_fmt="mxfp6_e2m3", w_fmt="mxfp6_e3m2"),
        MxMatmulCase(shape=LONG, spread=140, factors=Factors.BLOCKS),
        MxMatmulCase(shape=LONG, x_fmt="mxfp4", w_fmt="mxfp8_e5m2", factors=Factors.BLOCKS, has_bias=True),
        MxMatmulCase(shape=EVEN, x_fmt="mxfp8_e4m3", w_fmt="mxfp4", factors=Factors.BLOCKS, dtype=torch.bfloat16),
        MxMatmulCase(shape=EVEN, x_fmt="mxfp4", w_fmt="mxfp4", factors=Factors.BLOCKS),
    ],
    ids=lambda case: case.key,
)
def test_probes_and_bound(case: MxMatmulCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


@pytest.mark.parametrize("factors", [Factors.BFLOAT16, Factors.BLOCKS])
def test_every_pair_of_scales(factors: Factors) -> None:
    """Least, greatest and NaN scales: what a product of elements has is scaled without a detour by Inf or 0."""
    codes = torch.tensor([[0x01, 0x38, 0x7E]], dtype=torch.uint8)
    scales = torch.arange(256, dtype=torch.uint8).view(-1, 1)
    for code in codes[0]:
        x, w = code.expand(256, 1), code.expand(256, 1)
        assert_same_bits(RUN(x, w, scales, scales, **MXFP8, factors=factors), mx_matmul(x, w, scales, scales, **MXFP8))


@pytest.mark.parametrize("factors", [Factors.BFLOAT16, Factors.BLOCKS])
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products(shape: tuple[int, int, int], factors: Factors) -> None:
    rows, columns, length = shape
    x, w = torch.zeros(rows, length, dtype=torch.uint8), torch.zeros(columns, length, dtype=torch.uint8)
    blocks = -(-length // 32)
    scales = (torch.zeros(rows, blocks, dtype=torch.uint8), torch.zeros(columns, blocks, dtype=torch.uint8))
    bias = torch.randn(columns)
    assert_same_bits(
        RUN(x, w, *scales, **MXFP8, bias=bias, factors=factors), mx_matmul(x, w, *scales, **MXFP8, bias=bias)
    )


def test_what_it_declines_and_refuses() -> None:
    x, scale = torch.zeros(2, 64, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(UnsupportedError, match=r"ScaleOrder\.EXACT without them only"):
        RUN(x, x, scale, scale, **MXFP8, bias=torch.zeros(2), order=ScaleOrder.EXACT)
    with pytest.raises(ValueError, match=r"x_scale must have the shape \(2, 2\)"):
        RUN(x, x, scale[:, :1], scale, **MXFP8)
    with pytest.raises(ValueError, match="nvfp4 needs a x_tensor_scale"):
        RUN(x, x, torch.zeros(2, 4, dtype=torch.uint8), scale, x_fmt="nvfp4", w_fmt="mxfp4")
    with pytest.raises(TypeError, match="element codes of mxint8 must be"):
        RUN(x, x, scale, scale, x_fmt="mxint8", w_fmt="mxfp4")


def test_blocks_are_scaled_by_units_that_do() -> None:
    x, scale = torch.zeros(2, 64, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(UnsupportedError, match=r"of float8_e4m3fn, float8_e5m2, float4_e2m1fn, got mxfp6_e2m3"):
        RUN(x, x, scale, scale, x_fmt="mxfp6_e2m3", w_fmt="mxfp4", factors=Factors.BLOCKS)
    with pytest.raises(UnsupportedError, match="not codes"):
        RUN(x, x, scale, scale, **MXFP8, factors=Factors.CODES)
    hopper = Target(kind="cuda", arch="sm_90", shared=227 << 10, multiprocessors=132)
    with assuming(hopper), pytest.raises(UnsupportedError, match="sm_90 has no matrix units that scale blocks"):
        RUN(x, x, scale, scale, **MXFP8, factors=Factors.BLOCKS)
    blackwell = Target(kind="cuda", arch="sm_100", shared=227 << 10, multiprocessors=148)
    with (
        assuming(blackwell),
        pytest.raises(UnsupportedError, match="nothing is known of how cpu adds products of blocks"),
    ):
        accumulator(torch.device("cpu"), Factors.BLOCKS)
