"""`dequantize_affine` against the oracle."""

import pytest
import torch

from incref.conformance.block_judge import affine_values
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import random_patterns
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import dequantize_affine

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_channel(1), per_group(4), per_group(3, axis=-2), per_block((2, 5))]
SCALES = [
    1.0,
    0.1,
    -3.0,
    2.0**-149,
    3 * 2.0**-130,
    2.0**-126,
    1.0000001,
    2.0**120,
    3.4e38,
    torch.inf,
    torch.nan,
    0.0,
    -0.0,
]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def every_code(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(256, dtype=torch.int32).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("codes", [torch.uint8, torch.int8], ids=name_of)
def test_every_code_under_every_kind_of_scale(codes: torch.dtype, dtype: torch.dtype) -> None:
    scale = torch.tensor(SCALES).view(-1, 1)
    x = every_code(codes)[::7].repeat(len(SCALES), 1)
    low = torch.iinfo(codes).min
    zeros = torch.tensor([low, low + 128, low + 255] * 5, dtype=torch.int32)[: len(SCALES)].view(-1, 1)
    for zero_point in (None, zeros):
        got = dequantize_affine(x, scale, zero_point, granularity=PER_TOKEN, dtype=dtype)
        assert_same_bits(got, affine_values(x, scale, zero_point, PER_TOKEN, dtype), x, note=zero_point is None)


@pytest.mark.parametrize("scale_dtype", [torch.float64, torch.bfloat16, torch.float16, torch.uint8], ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_scales_of_other_dtypes(scale_dtype: torch.dtype, dtype: torch.dtype) -> None:
    x = every_code(torch.int8).repeat(8, 1)[:, ::5]
    if scale_dtype is torch.uint8:
        scale = torch.tensor([0, 1, 127, 130, 200, 253, 254, 255], dtype=torch.uint8).view(-1, 1)
    else:
        scale = random_patterns(8, scale_dtype, seed=3).view(-1, 1)
        scale[:2] = torch.tensor([[1.0], [0.1]])
    got = dequantize_affine(x, scale, granularity=PER_TOKEN, dtype=dtype)
    assert_same_bits(got, affine_values(x, scale, None, PER_TOKEN, dtype), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_a_float64_product_is_rounded_once_to_a_half(dtype: torch.dtype) -> None:
    step = torch.finfo(dtype).eps
    # Through float32 this would be a tie.
    scale = torch.tensor(1 + step / 2 + 2.0**-40, dtype=torch.float64)
    assert dequantize_affine(torch.tensor([1], dtype=torch.int8), scale, dtype=dtype).item() == 1 + step


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (2, 4, 6)], ids=str)
def test_granularities(shape: tuple[int, ...], granularity: Granularity) -> None:
    codes = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(0)).to(torch.int8)
    scale = torch.rand(granularity.scale_shape(shape), generator=torch.Generator().manual_seed(1))
    zeros = (torch.arange(max(1, scale.numel()), dtype=torch.int32) % 7).view(scale.shape)
    for zero_point in (None, zeros):
        got = dequantize_affine(codes, scale, zero_point, granularity=granularity)
        assert_same_bits(got, affine_values(codes, scale, zero_point, granularity, torch.float32))


def test_golden_values() -> None:
    codes = torch.tensor([0, 1, 255], dtype=torch.uint8)
    zero_point = torch.tensor(128, dtype=torch.int32)
    assert dequantize_affine(codes, torch.tensor(0.5), zero_point).tolist() == [-64.0, -63.5, 63.5]


def test_wrong_tensors_are_refused() -> None:
    codes, scale = torch.zeros(2, 3, dtype=torch.int8), torch.ones(2, 1)
    with pytest.raises(TypeError, match=r"codes must be torch\.uint8 or torch\.int8, got torch\.int32"):
        dequantize_affine(codes.int(), scale, granularity=PER_TOKEN)
    with pytest.raises(TypeError, match=r"zero_point must be torch\.int32, got torch\.int8"):
        dequantize_affine(codes, scale, scale.to(torch.int8), granularity=PER_TOKEN)
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        dequantize_affine(codes, scale.double(), granularity=PER_TOKEN, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"torch\.int32"):
        dequantize_affine(codes, scale.int(), granularity=PER_TOKEN)
    with pytest.raises(ValueError, match=r"the scale of a tensor of shape \(2, 3\).* the shape \(\), got \(2, 1\)"):
        dequantize_affine(codes, scale)
    with pytest.raises(ValueError, match=r"the zero_point of a tensor of shape \(2, 3\).* \(2, 1\), got \(\)"):
        dequantize_affine(codes, scale, torch.zeros((), dtype=torch.int32), granularity=PER_TOKEN)
