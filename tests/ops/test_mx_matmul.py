"""`mx_matmul` against the oracle."""

import pytest
import torch
from torch import Tensor

from incref.conformance.block_judge import mx_values
from incref.conformance.judge import assert_same_bits
from incref.conformance.matmul_judge import judged_matmul, scales_of_elements
from incref.formats import FORMATS, BlockFormat, ScaleOrder
from incref.numerics.granularity import PER_TENSOR
from incref.ops import mx_matmul, quantize_mx

MX = [name for name, fmt in FORMATS.items() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.exp2(torch.randn(shape, generator=generator))


def block_format(name: str) -> BlockFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    return fmt


def values(codes: Tensor, scale: Tensor, name: str) -> Tensor:
    one = torch.tensor(1.0) if block_format(name).has_tensor_scale else None
    return mx_values(codes, scale, block_format(name), tensor_scale=one, dtype=torch.float64)


def judged(
    x: Tensor,
    w: Tensor,
    *,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return judged_matmul(
        x,
        w,
        scales_of_elements(x_scale, x.shape, PER_TENSOR),
        scales_of_elements(w_scale, w.shape, PER_TENSOR),
        order=order,
        stretch=x.shape[-1],
        bias=bias,
        dtype=dtype,
    )


@pytest.mark.parametrize("w_fmt", MX)
@pytest.mark.parametrize("x_fmt", ["mxfp8_e4m3", "mxfp4", "mxint8"])
def test_element_formats_meet(x_fmt: str, w_fmt: str) -> None:
    x, x_scale = quantize_mx(normal(2, 2, 75), x_fmt)
    w, w_scale = quantize_mx(normal(5, 75, seed=1), w_fmt)
    for dtype, bias in ((torch.float32, None), (torch.bfloat16, None), (torch.float16, normal(5, seed=2))):
        got = mx_matmul(x, w, x_scale, w_scale, x_fmt=x_fmt, w_fmt=w_fmt, bias=bias, dtype=dtype)
        want = judged(values(x, x_scale, x_fmt), values(w, w_scale, w_fmt), bias=bias, dtype=dtype)
        assert_same_bits(got, want, note=dtype)


@pytest.mark.parametrize("order", ScaleOrder)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nvfp4_has_scales_of_tensors(dtype: torch.dtype, order: ScaleOrder) -> None:
    x, x_scale, x_tensor = quantize_mx(normal(3, 50), "nvfp4")
    w, w_scale, w_tensor = quantize_mx(normal(4, 50, seed=1) / 77, "nvfp4")
    for bias in (None, normal(4, seed=2)):
        got = mx_matmul(
            x,
            w,
            x_scale,
            w_scale,
            x_fmt="nvfp4",
            w_fmt="nvfp4",
            x_tensor_scale=x_tensor,
            w_tensor_scale=w_tensor,
            bias=bias,
            order=order,
            dtype=dtype,
        )
        left, right = values(x, x_scale, "nvfp4"), values(w, w_scale, "nvfp4")
        want = judged(left, right, x_scale=x_tensor, w_scale=w_tensor, bias=bias, order=order, dtype=dtype)
        assert_same_bits(got, want)


def test_nvfp4_beside_mx() -> None:
    x, x_scale, x_tensor = quantize_mx(normal(3, 50), "nvfp4")
    w, w_scale = quantize_mx(normal(4, 50, seed=1), "mxfp8_e5m2")
    got = mx_matmul(x, w, x_scale, w_scale, x_fmt="nvfp4", w_fmt="mxfp8_e5m2", x_tensor_scale=x_tensor)
    want = judged(values(x, x_scale, "nvfp4"), values(w, w_scale, "mxfp8_e5m2"), x_scale=x_tensor)
    assert_same_bits(got, want)


@pytest.mark.parametrize("w_fmt", ["mxfp8_e5m2", "mxfp4", "mxint8"])
def test_random_codes_and_scales(w_fmt: str) -> None:
    generator = torch.Generator().manual_seed(0)
    element = block_format(w_fmt).element
    codes = torch.randint(0, element.num_codes, (24, 40), generator=generator).to(torch.uint8)
    w = codes.view(torch.int8) if w_fmt == "mxint8" else codes
    x = torch.randint(0, 256, (16, 40), generator=generator).to(torch.uint8)
    x_scale, w_scale = (torch.randint(0, 256, (rows, 2), generator=generator).to(torch.uint8) for rows in (16, 24))
    x_scale[0], w_scale[0], w_scale[1] = 255, 0, 254
    got = mx_matmul(x, w, x_scale, w_scale, x_fmt="mxfp8_e5m2", w_fmt=w_fmt)
    assert_same_bits(got, judged(values(x, x_scale, "mxfp8_e5m2"), values(w, w_scale, w_fmt)))
    assert got[0].isnan().all()


def test_block_scales_of_both_ends_of_the_range_cancel() -> None:
    codes, up, down = (
        torch.tensor([[7]], dtype=torch.uint8),
        torch.tensor([[254]], dtype=torch.uint8),
        torch.tensor([[0]], dtype=torch.uint8),
    )
    assert mx_matmul(codes, codes, up, down, x_fmt="mxfp4", w_fmt="mxfp4").item() == 36.0
    assert mx_matmul(codes, codes, up, up, x_fmt="mxfp4", w_fmt="mxfp4").item() == torch.inf
    assert mx_matmul(codes, codes, down, down, x_fmt="mxfp4", w_fmt="mxfp4").item() == 0.0


def test_wrong_arguments_are_refused() -> None:
    x, scale = quantize_mx(normal(3, 64), "mxfp4")
    one = torch.tensor(1.0)
    with pytest.raises(ValueError, match="nvfp4 needs a w_tensor_scale"):
        mx_matmul(x, x, scale, scale, x_fmt="mxfp4", w_fmt="nvfp4")
    with pytest.raises(ValueError, match="mxfp4 has no x_tensor_scale"):
        mx_matmul(x, x, scale, scale, x_fmt="mxfp4", w_fmt="mxfp4", x_tensor_scale=one)
    with pytest.raises(
        ValueError, match=r"w_tensor_scale must be torch\.float32 of shape \(\), got torch\.float32 of \(1,\)"
    ):
        mx_matmul(x, x, scale, scale, x_fmt="mxfp4", w_fmt="nvfp4", w_tensor_scale=one.view(1))
    with pytest.raises(ValueError, match="float8_e4m3fn has no blocks"):
        mx_matmul(x, x, scale, scale, x_fmt="mxfp4", w_fmt="e4m3fn")
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., K\] and w \[N, K\]"):
        mx_matmul(x, x[:, 1:], scale, scale, x_fmt="mxfp4", w_fmt="mxfp4")
