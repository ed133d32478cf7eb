"""Products for mixtures of experts in one launch, compiled for the CPU."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.device_cases import Where
from conformance.grouped_cases import GroupedCase
from incref.errors import UnsupportedError
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_group
from incref.ops import fp8_matmul, mx_matmul, weight_only_matmul
from incref_kernels.triton import BACKEND
from incref_kernels.triton.groups import Groups
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.targets import Factors

WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=16, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2)
TURNED = MatmulTile(block_m=32, block_n=16, block_k=32, num_warps=2, num_stages=2, is_transposed=True)
BLOCKS = MatmulTile(block_m=32, block_n=32, block_k=128, num_warps=2, num_stages=1, group_m=2)
# Empty experts at both ends and in between, one row, tiles and a part of one, rows that are no expert's.
ENDS = (0, 3, 3, 20, 21, 53, 53)
FP8 = GroupedCase(
    op="fp8_matmul", fmt="float8_e4m3fn", ends=ENDS, rows=56, columns=37, length=72, x_granularity=PER_TOKEN
)
WEIGHT = GroupedCase(op="weight_only_matmul", fmt="int8", ends=ENDS, rows=56, columns=37, length=72)
MX = GroupedCase(op="mx_matmul", fmt="mxfp8_e4m3", ends=ENDS, rows=56, columns=37, length=72)


def _tile(tile: MatmulTile, **options: object) -> tuple[tuple[str, object], ...]:
    return (("tile", tile), *options.items())


@pytest.mark.parametrize(
    "case",
    [
        replace(FP8, granularity=PER_TOKEN, options=_tile(TILE)),
        replace(FP8, x_granularity=PER_TENSOR, options=_tile(TURNED, factors=Factors.BFLOAT16)),
        replace(FP8, x_granularity=per_group(32), granularity=per_block((32, 32)), length=64, options=_tile(TURNED)),
        replace(WEIGHT, granularity=PER_TOKEN, options=_tile(TURNED)),
        replace(WEIGHT, fmt="uint4", packed=PackLayout.INT32, granularity=per_group(32), options=_tile(TURNED)),
        replace(WEIGHT, fmt="nvfp4", options=_tile(TURNED)),
        replace(WEIGHT, granularity=PER_TOKEN, ends=(0, 0, 1, 1, 1, 3, 3, 3), rows=3, options=_tile(TURNED)),
        replace(MX, options=_tile(TILE)),
        replace(MX, fmt="nvfp4", options=_tile(TURNED)),
        replace(MX, options=_tile(BLOCKS, factors=Factors.BLOCKS), length=150),
        replace(
            MX, fmt="mxfp4", options=_tile(replace(BLOCKS, is_transposed=True), factors=Factors.BLOCKS), length=128
        ),
    ],
    ids=lambda case: case.key,
)
def test_each_expert_multiplies_its_rows(case: GroupedCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


def test_no_rows_and_no_columns() -> None:
    run, ends = weight_only_matmul.on(BACKEND), torch.zeros(2, dtype=torch.int32)
    w, scale = torch.zeros(2, 3, 4, dtype=torch.int8), torch.ones(2)
    assert run(torch.zeros(0, 4), w, scale, "int8", ends=ends).shape == (0, 3)
    assert run(torch.ones(5, 4), w[:, :0], scale, "int8", ends=ends).shape == (5, 0)
    assert not run(torch.ones(5, 4), w, scale, "int8", ends=ends).any()


def test_ends_beyond_the_rows_reach_nothing_else() -> None:
    """A mistake that only the device can see gives no access beside the tensors."""
    x, w = torch.ones(5, 4), torch.ones(3, 3, 4, dtype=torch.int8)
    ends = torch.tensor([2, 1 << 30, -7], dtype=torch.int32)
    got = weight_only_matmul.on(BACKEND)(x, w, torch.tensor([1.0, 2.0, 4.0]), "int8", ends=ends)
    assert got[:, 0].tolist() == [4, 4, 8, 8, 8]


@pytest.mark.parametrize(("sizes", "size"), [((7, 0, 1), 4), ((1, 1, 1, 1), 64), ((64, 64), 64), ((0, 0), 16)])
def test_programs_suffice(sizes: tuple[int, ...], size: int) -> None:
    rows = sum(sizes)
    groups = Groups(ends=torch.tensor(sizes).cumsum(0).int(), count=len(sizes))
    tile = MatmulTile(block_m=size, block_n=16, block_k=32)
    needed = sum(-(-one // size) for one in sizes) * 2
    assert needed <= groups.programs(tile, rows, 32) <= needed + 2 * (len(sizes) - 1)


def test_what_it_declines_and_refuses() -> None:
    x, w, ends = torch.zeros(4, 64, dtype=torch.uint8), torch.zeros(2, 3, 64, dtype=torch.uint8), torch.zeros(2).int()
    named = {"x_fmt": "float8_e4m3fn", "w_fmt": "float8_e4m3fn", "ends": ends}
    run = fp8_matmul.on(BACKEND)
    with pytest.raises(UnsupportedError, match="rows in groups have scales of their own or one of all"):
        run(x, w, torch.ones(2, 1), torch.ones(2), **named, x_granularity=per_block((2, 64)))
    with pytest.raises(TypeError, match=r"ends must be torch\.int32, got torch\.int64"):
        run(x, w, None, None, **(named | {"ends": ends.long()}))
    with pytest.raises(ValueError, match=r"w \[E, N, K\] and ends \[E\], with E of 1 or more"):
        run(x, w, None, None, **(named | {"ends": ends[:1]}))
    with pytest.raises(UnsupportedError, match="it takes no g_idx with ends"):
        weight_only_matmul.on(BACKEND)(
            x.float(),
            w.view(torch.int8),
            torch.ones(2, 3, 1),
            "int8",
            ends=ends,
            g_idx=torch.zeros(64, dtype=torch.int32),
        )
    scale = torch.zeros(2, 3, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"w_scale must have the shape \(2, 3, 2\)"):
        mx_matmul.on(BACKEND)(x, w, scale[0, :1].expand(4, 2), scale[..., :1], x_fmt="mxfp4", w_fmt="mxfp4", ends=ends)
