"""Tiles that are tuned for GPUs compute the same on the CPU, which gets small ones."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.device_cases import DeviceCase, Where
from conformance.matmul_cases import Fp8MatmulCase, Int8MatmulCase, MatmulShape, MxMatmulCase, WeightOnlyCase
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TOKEN, per_group
from incref_kernels.triton import BACKEND, fp8_matmul, int8_matmul, mx_matmul, weight_only_matmul
from incref_kernels.triton.matmul_tiles import MatmulTile, fit_tile, tile_for
from incref_kernels.triton.targets import Target, assuming

CPU = torch.device("cpu")
HOPPER = Target(kind="cuda", arch="sm_90", shared=227 << 10, multiprocessors=132)


def shape(tile: MatmulTile) -> MatmulShape:
    """Two tiles and a part of one along K, and parts of some of the result."""
    return MatmulShape(
        rows=19, columns=150, length=2 * tile.block_k + 8, options=(("tile", tile),), edges=(tile.block_k,)
    )


@pytest.mark.parametrize(
    "case",
    [
        *(Int8MatmulCase(shape=shape(tile), has_zero_point=True) for tile in int8_matmul.TILES),
        *(
            WeightOnlyCase(shape=shape(tile), fmt="uint4", granularity=per_group(32), packed=PackLayout.BYTES)
            for tile in weight_only_matmul.TILES
        ),
        *(
            Fp8MatmulCase(shape=shape(tile), x_granularity=PER_TOKEN, w_granularity=PER_TOKEN)
            for tile in fp8_matmul.TILES
        ),
        *(MxMatmulCase(shape=shape(tile), x_fmt="nvfp4", w_fmt="nvfp4") for tile in mx_matmul.FUSED_TILES),
    ],
    ids=lambda case: f"{type(case).__name__}-{'x'.join(map(str, tile_of(case)))}",
)
def test_tuned_tiles_compute_the_same(case: DeviceCase) -> None:
    finding = case.check(Where(backend=BACKEND, device=CPU, chunk=1))
    assert finding.checked
    assert not finding.mismatches, finding.first


def tile_of(case: Int8MatmulCase | WeightOnlyCase | Fp8MatmulCase | MxMatmulCase) -> tuple[int, int, int]:
    tile = dict(case.shape.options)["tile"]
    assert isinstance(tile, MatmulTile)
    return tile.block_m, tile.block_n, tile.block_k


def test_the_cpu_gets_a_small_tile_and_a_gpu_the_tuned_one() -> None:
    tuned = tile_for(fp8_matmul.TILES, 200)
    assert (tuned.block_m, tuned.block_n, tuned.block_k, tuned.num_stages) == (128, 128, 128, 4)
    small = fit_tile(tuned, CPU, x_bytes=1, w_bytes=1)
    assert (small.block_m, small.block_n, small.block_k, small.num_stages) == (32, 32, 64, 1)
    with assuming(HOPPER):
        assert fit_tile(tuned, CPU, x_bytes=1, w_bytes=1) == tuned
