"""`dequantize_mx` against the oracle."""

import pytest
import torch

from incref.conformance.block_judge import mx_values
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import all_codes
from incref.formats import FORMATS, BlockFormat
from incref.ops import dequantize_mx

BLOCKS = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TENSOR_SCALES = [1.0, 0.1, -3.0, 3 * 2.0**-130, 2.0**120, torch.inf, torch.nan, 0.0]


def name_of(value: object) -> str:
    return getattr(value, "name", None) or str(value).removeprefix("torch.")


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("fmt", BLOCKS, ids=name_of)
def test_every_element_under_every_scale(fmt: BlockFormat, dtype: torch.dtype) -> None:
    codes = all_codes(fmt.element)
    codes = codes[:: max(1, len(codes) // 32)]
    # A column of scales, so that every element meets every scale.
    scale = torch.arange(0, 256, dtype=torch.int32).to(torch.uint8)[:: 15 if fmt.has_tensor_scale else 5].view(-1, 1)
    rows = codes.repeat(len(scale), 1)
    for width in (fmt.block_size, fmt.block_size - 3):
        part = rows[:, :width]
        for value in TENSOR_SCALES if fmt.has_tensor_scale else [None]:
            tensor_scale = None if value is None else torch.tensor(value)
            got = dequantize_mx(part, scale, fmt, tensor_scale=tensor_scale, dtype=dtype)
            want = mx_values(part, scale, fmt, tensor_scale=tensor_scale, dtype=dtype)
            assert_same_bits(got, want, part, note=(width, value))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_blocks_along_any_axis(dtype: torch.dtype, axis: int) -> None:
    fmt = FORMATS["mxfp4"]
    assert isinstance(fmt, BlockFormat)
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 35, 3), (64, 2, 32)):
        codes = torch.randint(0, 16, shape, generator=generator).to(torch.uint8).permute(0, 2, 1)
        wanted = list(codes.shape)
        wanted[axis] = -(-wanted[axis] // 32)
        scale = torch.randint(100, 140, wanted, generator=generator).to(torch.uint8)
        got = dequantize_mx(codes, scale, fmt, axis=axis, dtype=dtype)
        assert got.is_contiguous()
        assert_same_bits(got, mx_values(codes, scale, fmt, axis=axis, dtype=dtype))


def test_golden_values() -> None:
    codes, scale = torch.tensor([2, 12, 7], dtype=torch.uint8), torch.tensor([0x38], dtype=torch.uint8)
    assert dequantize_mx(codes, scale, "nvfp4", tensor_scale=torch.tensor(0.5)).tolist() == [0.5, -1.0, 3.0]
    assert dequantize_mx(codes, torch.tensor([255], dtype=torch.uint8), "mxfp4").isnan().all()


def test_a_tensor_without_elements() -> None:
    empty = torch.empty((3, 0), dtype=torch.uint8)
    assert dequantize_mx(empty, empty, "mxfp4").shape == (3, 0)


def test_wrong_tensors_are_refused() -> None:
    codes, scale = torch.zeros((2, 33), dtype=torch.uint8), torch.zeros((2, 2), dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"element codes of mxfp4 must be torch\.uint8, got torch\.int8"):
        dequantize_mx(codes.to(torch.int8), scale, "mxfp4")
    with pytest.raises(TypeError, match=r"element codes of mxint8 must be torch\.int8, got torch\.uint8"):
        dequantize_mx(codes, scale, "mxint8")
    with pytest.raises(TypeError, match=r"scale codes of mxfp4 must be torch\.uint8, got torch\.float32"):
        dequantize_mx(codes, scale.float(), "mxfp4")
    with pytest.raises(TypeError, match=r"values must be one of .* got torch\.int32"):
        dequantize_mx(codes, scale, "mxfp4", dtype=torch.int32)
    with pytest.raises(ValueError, match="float4_e2m1fn has no blocks"):
        dequantize_mx(codes, scale, "e2m1")
    with pytest.raises(ValueError, match="blocks lie along a dimension of x, which has 2; got axis=2"):
        dequantize_mx(codes, scale, "mxfp4", axis=2)
    with pytest.raises(
        ValueError, match=r"in blocks of 32 along axis -1 must have 2 entries along it .* got shape \(2, 1\)"
    ):
        dequantize_mx(codes, scale[:, :1], "mxfp4")
    with pytest.raises(ValueError, match="nvfp4 needs a tensor_scale"):
        dequantize_mx(codes, scale, "nvfp4")
    with pytest.raises(ValueError, match="mxfp4 has no tensor_scale"):
        dequantize_mx(codes, scale, "mxfp4", tensor_scale=torch.tensor(1.0))
