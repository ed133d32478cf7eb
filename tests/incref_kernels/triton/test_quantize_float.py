import pytest
import torch

from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import block_rows, random_patterns
from incref.errors import NanError
from incref.formats import NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import (
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    per_block,
    per_channel,
    per_group,
)
from incref.ops import dequantize_float, quantize_float
from incref_kernels.triton import BACKEND
from incref_kernels.triton.scaled import TILE

GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_group(8), per_block((16, 8)), per_channel(-1)]
# The interpreter takes milliseconds for each row of a tensor whose rows don't follow one another.
FEW = 20
RUN, BACK = quantize_float.on(BACKEND), dequantize_float.on(BACKEND)


def assert_as_reference(x: torch.Tensor, fmt: str, *args: torch.Tensor, **options: object) -> None:
    options = {"nan": NanRule.MAX} | options
    want, got = quantize_float(x, fmt, *args, **options), RUN(x, fmt, *args, **options)  # type: ignore[arg-type]
    for found, right in zip(got, want, strict=True):
        assert_same_bits(found, right, note=options)


@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_scales_that_are_found(granularity: Granularity, arithmetic: ScaleArithmetic) -> None:
    x = block_rows(torch.float32, FEW)
    x = x.T if granularity == per_channel(-1) else x
    for fmt, rule in (("e4m3fn", ScaleRule.DIVIDE), ("e2m1", ScaleRule.EVEN)):
        assert_as_reference(x, fmt, granularity=granularity, rule=rule, arithmetic=arithmetic)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
def test_scales_that_are_given(arithmetic: ScaleArithmetic, overflow: Overflow) -> None:
    x = random_patterns(64 * 40, torch.float32).view(64, 40)
    scale = random_patterns(64, torch.float32, seed=1).view(64, 1)
    for given in (scale, scale.to(torch.bfloat16), torch.arange(64, dtype=torch.uint8).view(64, 1) * 4):
        assert_as_reference(x, "e5m2", given, granularity=PER_TOKEN, arithmetic=arithmetic, overflow=overflow)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_sources(dtype: torch.dtype) -> None:
    x = block_rows(dtype, FEW)
    for rounding in (Rounding.NEAREST_EVEN, Rounding.TOWARD_NEGATIVE):
        assert_as_reference(x, "e4m3fn", granularity=PER_TOKEN, rounding=rounding)


@pytest.mark.parametrize("granularity", [*GRANULARITIES, per_group(4096)], ids=str)
def test_the_shipped_tile_finds_the_scale_of_every_element(granularity: Granularity) -> None:
    x = torch.randn(5, 5000, generator=torch.Generator().manual_seed(0))
    run = BACKEND.kernels["quantize_float"].fn
    got, want = (
        run(x, "e4m3fn", granularity=granularity, tile=TILE),
        quantize_float(x, "e4m3fn", granularity=granularity),
    )
    assert isinstance(got, tuple)
    for found, right in zip(got, want, strict=True):
        assert_same_bits(found, right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_the_way_back(granularity: Granularity, dtype: torch.dtype) -> None:
    codes, scale = quantize_float(block_rows(torch.float32, FEW).T, "e4m3fn", granularity=granularity)
    for given in (scale, scale.to(torch.float64)):
        want = dequantize_float(codes, given, "e4m3fn", granularity=granularity, dtype=dtype)
        assert_same_bits(BACK(codes, given, "e4m3fn", granularity=granularity, dtype=dtype), want)


def test_a_nan_without_a_code_is_refused() -> None:
    with pytest.raises(NanError, match="float4_e2m1fn has no NaN"):
        RUN(torch.tensor([1.0, torch.nan]), "e2m1")


def test_a_scale_that_is_wider_than_the_arithmetic_is_refused() -> None:
    with pytest.raises(TypeError, match="the scale must not be wider"):
        RUN(torch.ones(2), "e4m3fn", torch.tensor(1.0, dtype=torch.float64))
