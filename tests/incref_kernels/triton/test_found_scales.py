import pytest
import torch

from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import random_patterns
from incref.formats import NanRule, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import quantize_affine, quantize_float
from incref_kernels.triton import BACKEND
from incref_kernels.triton.found_scales import takes_one_pass
from incref_kernels.triton.quantize_float import quantize_float as launch_quantize
from incref_kernels.triton.tiles import Tile

SMALL = Tile(elements=256, num_warps=1)


def patterns() -> torch.Tensor:
    return random_patterns(2 * 20 * 130, torch.float32).view(2, 20, 130)


@pytest.mark.parametrize(
    "granularity", [PER_TOKEN, per_group(128), per_group(48), per_block((16, 40)), per_block((128, 128))], ids=str
)
def test_blocks_of_every_shape_are_found_and_quantized(granularity: Granularity) -> None:
    x = patterns()
    assert takes_one_pass(x, granularity)
    options = {"granularity": granularity, "nan": NanRule.ZERO}
    want = quantize_float(x, "e4m3fn", **options)  # type: ignore[arg-type]
    for found, right in zip(launch_quantize(x, "e4m3fn", **options, tile=SMALL), want, strict=True):  # type: ignore[arg-type]
        assert_same_bits(found, right)


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("int8", {}),
        ("int8", {"rule": ScaleRule.RECIPROCAL}),
        ("int4", {"rule": ScaleRule.CEIL}),
        ("int4", {"symmetric_scale": SymmetricScale.EXTREME}),
        ("uint4", {"symmetric": False}),
        ("int8", {"symmetric": False}),
    ],
    ids=str,
)
def test_every_way_to_find_a_scale(fmt: str, options: dict[str, object]) -> None:
    options = {"granularity": PER_TOKEN, "nan": NanRule.ZERO} | options
    for x in (patterns(), torch.randn(3, 7, generator=torch.Generator().manual_seed(0))):
        got, want = quantize_affine.on(BACKEND)(x, fmt, **options), quantize_affine(x, fmt, **options)  # type: ignore[arg-type]
        for found, right in zip(got, want, strict=True):
            assert_same_bits(found, right, note=options)


def test_what_takes_two_passes() -> None:
    assert not takes_one_pass(torch.zeros(200, 200), PER_TENSOR)
    assert not takes_one_pass(torch.zeros(2, 20_000), PER_TOKEN)
    assert not takes_one_pass(torch.zeros(2, 0), PER_TOKEN)
    assert takes_one_pass(torch.zeros(200, 200), per_channel(-1))
