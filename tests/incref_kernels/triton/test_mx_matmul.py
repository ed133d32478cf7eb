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

RUN = mx_matmul.on(BACKEND)
WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=16, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2)
TURNED = MatmulTile(block_m=32, block_n=16, block_k=32, num_warps=2, num_stages=2, is_transposed=True)
SHAPE = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE),), edges=(16, 32, 64))
OTHER = MatmulShape(rows=19, columns=37, length=64, options=(("tile", TURNED),), edges=(16, 32, 64))
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
    ],
    ids=lambda case: case.key,
)
def test_probes_and_bound(case: MxMatmulCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


def test_every_pair_of_scales() -> None:
    """Least, greatest and NaN scales: what a product of elements has is scaled without a detour by Inf or 0."""
    codes = torch.tensor([[0x01, 0x38, 0x7E]], dtype=torch.uint8)
    scales = torch.arange(256, dtype=torch.uint8).view(-1, 1)
    for code in codes[0]:
        x, w = code.expand(256, 1), code.expand(256, 1)
        assert_same_bits(RUN(x, w, scales, scales, **MXFP8), mx_matmul(x, w, scales, scales, **MXFP8))


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products(shape: tuple[int, int, int]) -> None:
    rows, columns, length = shape
    x, w = torch.zeros(rows, length, dtype=torch.uint8), torch.zeros(columns, length, dtype=torch.uint8)
    blocks = -(-length // 32)
    scales = (torch.zeros(rows, blocks, dtype=torch.uint8), torch.zeros(columns, blocks, dtype=torch.uint8))
    bias = torch.randn(columns)
    assert_same_bits(RUN(x, w, *scales, **MXFP8, bias=bias), mx_matmul(x, w, *scales, **MXFP8, bias=bias))


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
