import pytest
import torch

from incref.conformance.judge import assert_same_bits
from incref.formats import FORMATS, BlockFormat, IntFormat
from incref.ops import dequantize_mx
from incref_kernels.triton import BACKEND

BLOCKS = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
RUN = dequantize_mx.on(BACKEND)


def every_code_under_every_scale(fmt: BlockFormat) -> tuple[torch.Tensor, torch.Tensor]:
    every = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    codes = every.repeat(256, 1)
    scale = every[:, None].repeat(1, 256 // fmt.block_size)
    return codes.view(torch.int8) if isinstance(fmt.element, IntFormat) else codes, scale


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fmt", BLOCKS, ids=lambda fmt: fmt.name)
def test_every_code_under_every_scale(fmt: BlockFormat, dtype: torch.dtype) -> None:
    codes, scale = every_code_under_every_scale(fmt)
    for whole in (0.3, 1e-38, 3e38) if fmt.has_tensor_scale else (None,):
        tensor_scale = None if whole is None else torch.tensor(whole)
        want = dequantize_mx(codes, scale, fmt, tensor_scale=tensor_scale, dtype=dtype)
        assert_same_bits(RUN(codes, scale, fmt, tensor_scale=tensor_scale, dtype=dtype), want, note=whole)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_along_every_axis_with_a_ragged_tail(axis: int) -> None:
    codes = torch.arange(3 * 70 * 5, dtype=torch.int32).to(torch.uint8).view(3, 70, 5)
    shape = [3, 70, 5]
    shape[axis] = -(-shape[axis] // 32)
    scale = torch.randint(100, 150, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    want = dequantize_mx(codes, scale, "mxfp8_e5m2", axis=axis)
    assert_same_bits(RUN(codes, scale, "mxfp8_e5m2", axis=axis), want)


def test_wrong_arguments_are_refused_as_by_the_reference() -> None:
    codes, scale = torch.zeros(4, 64, dtype=torch.uint8), torch.zeros(4, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"must have the shape \(4, 2\), got \(4, 1\)"):
        RUN(codes, scale[:, :1], "mxfp4")
    with pytest.raises(ValueError, match="nvfp4 needs a tensor_scale"):
        RUN(codes, scale, "nvfp4")
    with pytest.raises(TypeError, match="element codes of mxint8 must be"):
        RUN(codes, scale, "mxint8")
