import pytest
import torch

from incref.conformance.judge import assert_same_bits, bits_of
from incref.conformance.samples import block_rows
from incref.errors import UnsupportedError
from incref.formats import ScaleRule, SymmetricScale
from incref.numerics.granularity import (
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    per_block,
    per_channel,
    per_group,
)
from incref.ops import compute_scale
from incref_kernels.triton import BACKEND
from incref_kernels.triton.compute_scale import tensor_scale

GRANULARITIES = [
    PER_TENSOR,
    PER_TOKEN,
    per_group(8),
    per_group(7),
    per_channel(),
    per_channel(-1),
    per_block((16, 8)),
    per_block((3, 5)),
    per_group(4, -2),
]
RUN = compute_scale.on(BACKEND)


def assert_as_reference(x: torch.Tensor, fmt: str, granularity: Granularity, **options: object) -> None:
    want, got = compute_scale(x, fmt, granularity, **options), RUN(x, fmt, granularity, **options)  # type: ignore[arg-type]
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) and isinstance(got, tuple) else [(got, want)]
    for found, right in pairs:
        assert isinstance(found, torch.Tensor)
        assert isinstance(right, torch.Tensor)
        assert_same_bits(found, right, note=options)
        assert torch.equal(bits_of(found), bits_of(right)), "the sign of a NaN"


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_symmetric_scales_of_every_rule(granularity: Granularity) -> None:
    x = block_rows(torch.float32, 20)
    for rule in ScaleRule:
        assert_as_reference(x, "e4m3fn", granularity, rule=rule)
    for kind in SymmetricScale:
        assert_as_reference(x, "int4", granularity, symmetric_scale=kind)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_sources(dtype: torch.dtype) -> None:
    x = block_rows(dtype, 20)
    for rule in ScaleRule:
        assert_as_reference(x, "int8", PER_TOKEN, rule=rule)
    assert_as_reference(x, "uint8", PER_TOKEN, symmetric=False)


@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_TOKEN, per_channel(-1)], ids=str)
@pytest.mark.parametrize("rule", [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL])
def test_asymmetric_scales(rule: ScaleRule, granularity: Granularity) -> None:
    x = block_rows(torch.float32, 20)
    for fmt in ("uint4", "int8"):
        assert_as_reference(x, fmt, granularity, rule=rule, symmetric=False)


@pytest.mark.parametrize(
    ("shape", "granularity"),
    [
        ((70000,), PER_TENSOR),
        ((3, 20000), PER_TOKEN),
        ((2, 16384), per_group(16384)),
        ((300, 7), per_channel(-1)),
        ((2, 3, 300, 40), per_block((128, 32))),
        ((520, 3), per_group(512, -2)),
        ((0, 5), PER_TENSOR),
    ],
    ids=str,
)
def test_blocks_that_take_more_than_one_step(shape: tuple[int, ...], granularity: Granularity) -> None:
    assert_as_reference(torch.randn(shape, generator=torch.Generator().manual_seed(0)), "e4m3fn", granularity)


def test_the_scale_of_a_tensor_leaves_out_what_is_not_finite() -> None:
    assert tensor_scale(torch.tensor([1.0, -torch.inf, torch.nan, -8.0]), 2.0).item() == 4.0


def test_blocks_that_can_not_be_reduced_are_declined() -> None:
    with pytest.raises(UnsupportedError, match="with an odd extent beyond 256"):
        RUN(torch.ones(800, 4), "e4m3fn", per_group(257, -2))
    with pytest.raises(UnsupportedError, match="cut two neighbouring dimensions"):
        RUN(torch.ones(4, 4, 4), "e4m3fn", per_block((2, 2, 2)))
    with pytest.raises(UnsupportedError, match="no scale rule for nf4"):
        RUN(torch.ones(4), "nf4")
