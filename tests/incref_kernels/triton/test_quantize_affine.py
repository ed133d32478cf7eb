import pytest
import torch

from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import block_rows, random_patterns
from incref.errors import NanError
from incref.formats import IntRange, NanRule, Rounding, ScaleArithmetic, SymmetricScale
from incref.numerics.granularity import (
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    per_block,
    per_channel,
    per_group,
)
from incref.ops import dequantize_affine, quantize_affine
from incref_kernels.triton import BACKEND

GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_group(8), per_block((16, 8)), per_channel(-1)]
RUN, BACK = quantize_affine.on(BACKEND), dequantize_affine.on(BACKEND)


def assert_as_reference(x: torch.Tensor, fmt: str, *args: torch.Tensor, **options: object) -> None:
    options = {"nan": NanRule.MAX} | options
    want, got = quantize_affine(x, fmt, *args, **options), RUN(x, fmt, *args, **options)  # type: ignore[arg-type]
    assert len(got) == len(want)
    for found, right in zip(got, want, strict=True):
        assert_same_bits(found, right, note=options)


@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_scales_that_are_found(granularity: Granularity, arithmetic: ScaleArithmetic) -> None:
    x = block_rows(torch.float32, 20)
    for symmetric in (True, False):
        for nan in (NanRule.MAX, NanRule.ZERO):
            assert_as_reference(x, "int8", granularity=granularity, arithmetic=arithmetic, symmetric=symmetric, nan=nan)


def test_other_grids() -> None:
    x = block_rows(torch.float32, 20)
    assert_as_reference(x, "int4", granularity=PER_TOKEN, symmetric_scale=SymmetricScale.EXTREME)
    assert_as_reference(x, "int4", granularity=PER_TOKEN, int_range=IntRange.RESTRICTED)


@pytest.mark.parametrize("rounding", [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC])
def test_scales_and_zero_points_that_are_given(rounding: Rounding) -> None:
    x = random_patterns(64 * 40, torch.float32).view(64, 40)
    scale = random_patterns(64, torch.float32, seed=1).view(64, 1)
    zero = torch.arange(64, dtype=torch.int32).view(64, 1) % 16
    assert_as_reference(x, "uint4", scale, zero, granularity=PER_TOKEN, rounding=rounding)
    assert_as_reference(x, "int8", scale, granularity=PER_TOKEN, rounding=rounding)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_sources(dtype: torch.dtype) -> None:
    for symmetric in (True, False):
        assert_as_reference(block_rows(dtype, 20), "int8", granularity=PER_TOKEN, symmetric=symmetric)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_the_way_back(granularity: Granularity, dtype: torch.dtype) -> None:
    x = block_rows(torch.float32, 20).T
    for symmetric in (True, False):
        parts = quantize_affine(x, "int8", granularity=granularity, symmetric=symmetric, nan=NanRule.ZERO)
        want = dequantize_affine(*parts, granularity=granularity, dtype=dtype)
        assert_same_bits(BACK(*parts, granularity=granularity, dtype=dtype), want)


def test_a_nan_without_a_code_is_refused() -> None:
    with pytest.raises(NanError, match="int8 has no NaN"):
        RUN(torch.tensor([1.0, torch.nan]), "int8")
