"""`dequantize_float` against the oracle."""

import pytest
import torch

from incref.conformance.block_judge import float_values
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import NARROW, all_codes, random_patterns
from incref.formats import ElementFormat, FloatFormat, IntFormat, get_format
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import dequantize_float

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FLOATS = [fmt for fmt in NARROW if not isinstance(fmt, IntFormat)]
GRANULARITIES = [PER_TENSOR, PER_TOKEN, per_channel(1), per_group(4), per_group(3, axis=-2), per_block((2, 5))]
SCALES = [1.0, 0.1, -3.0, 3 * 2.0**-130, 2.0**120, torch.inf, torch.nan, 0.0]


def name_of(value: object) -> str:
    return getattr(value, "name", None) or str(value).removeprefix("torch.")


def float_format(name: str) -> FloatFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


@pytest.mark.parametrize("fmt", FLOATS, ids=name_of)
def test_every_code_under_every_kind_of_scale(fmt: ElementFormat) -> None:
    scale = torch.tensor(SCALES).view(-1, 1)
    codes = all_codes(fmt)[:: 1 + fmt.bits // 7 * 2].repeat(len(SCALES), 1)
    for dtype in DTYPES:
        got = dequantize_float(codes, scale, fmt, granularity=PER_TOKEN, dtype=dtype)
        assert_same_bits(got, float_values(codes, scale, fmt, PER_TOKEN, dtype), codes, note=dtype)


@pytest.mark.parametrize("scale_dtype", [torch.float64, torch.bfloat16, torch.float16, torch.uint8], ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_scales_of_other_dtypes(scale_dtype: torch.dtype, dtype: torch.dtype) -> None:
    fmt = float_format("e4m3fn")
    codes = all_codes(fmt).repeat(8, 1)[:, ::5]
    if scale_dtype is torch.uint8:
        scale = torch.tensor([0, 1, 127, 130, 200, 253, 254, 255], dtype=torch.uint8).view(-1, 1)
    else:
        scale = random_patterns(8, scale_dtype, seed=3).view(-1, 1)
        scale[:2] = torch.tensor([[1.0], [0.1]])
    got = dequantize_float(codes, scale, fmt, granularity=PER_TOKEN, dtype=dtype)
    assert_same_bits(got, float_values(codes, scale, fmt, PER_TOKEN, dtype), codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_a_float64_product_is_rounded_once_to_a_half(dtype: torch.dtype) -> None:
    step = torch.finfo(dtype).eps
    scale = torch.tensor(1 + step / 2 + 2.0**-40, dtype=torch.float64)
    assert dequantize_float(torch.tensor([0x38], dtype=torch.uint8), scale, "e4m3fn", dtype=dtype).item() == 1 + step


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (2, 4, 6)], ids=str)
def test_granularities(shape: tuple[int, ...], granularity: Granularity) -> None:
    codes = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    scale = torch.rand(granularity.scale_shape(shape), generator=torch.Generator().manual_seed(1))
    got = dequantize_float(codes, scale, "e4m3fn", granularity=granularity)
    assert_same_bits(got, float_values(codes, scale, float_format("e4m3fn"), granularity, torch.float32))


def test_wrong_tensors_are_refused() -> None:
    codes, scale = torch.zeros(2, 3, dtype=torch.uint8), torch.ones(2, 1)
    with pytest.raises(TypeError, match=r"codes of float8_e4m3fn must be torch\.uint8, got torch\.int8"):
        dequantize_float(codes.to(torch.int8), scale, "e4m3fn", granularity=PER_TOKEN)
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        dequantize_float(codes, scale.double(), "e4m3fn", granularity=PER_TOKEN, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"torch\.int32"):
        dequantize_float(codes, scale.int(), "e4m3fn", granularity=PER_TOKEN)
    with pytest.raises(ValueError, match=r"the scale of a tensor of shape \(2, 3\).* the shape \(\), got \(2, 1\)"):
        dequantize_float(codes, scale, "e4m3fn")
    with pytest.raises(ValueError, match="scaled floats need a float format of at most 8 bits, got int8"):
        dequantize_float(codes, scale, "int8")
