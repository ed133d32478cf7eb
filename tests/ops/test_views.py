"""Every operation on views, small and large: the results of a contiguous copy, contiguous, and inputs left alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from incref.conformance.judge import assert_same_bits
from incref.formats import NanRule, Rounding, ScaleRule
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_channel, per_group
from incref.ops import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    fp8_bmm,
    fp8_conv2d,
    fp8_matmul,
    int8_matmul,
    mx_matmul,
    quantize_affine,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)

Outputs = tuple[Tensor, ...]


def codes_from(x: Tensor) -> Tensor:
    """Bytes with the strides of `x`."""
    return (x.view(torch.int32) if x.itemsize == 4 else x).bitwise_right_shift(20).to(torch.uint8)


def image_of(x: Tensor) -> Tensor:
    codes = codes_from(x)
    return codes if x.ndim == 4 else codes[None]


def filter_of(x: Tensor) -> Tensor:
    """Codes [1, C, 1, 1]."""
    return weight_of(image_of(x).movedim(1, -1))[..., None, None]


def random_bits(x: Tensor) -> Tensor:
    """Random bits with strides of their own."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, *x.shape), generator=generator).to(torch.uint8).movedim(0, -1)[..., 1]


def block_scales(x: Tensor) -> Tensor:
    shape = per_group(32).scale_shape(x.shape)
    return torch.arange(120, 120 + torch.Size(shape).numel()).remainder(240).to(torch.uint8).view(shape)


def weight_of(x: Tensor) -> Tensor:
    """Codes [1, K] of a weight, every second of a row."""
    return torch.arange(2 * x.shape[-1]).remainder(16).to(torch.uint8)[::2].unsqueeze(0)


OPERATIONS: dict[str, Callable[[Tensor], Outputs]] = {
    "encode": lambda x: (encode(x, "e4m3fn"),),
    "encode-stochastic": lambda x: (encode(x, "e4m3fn", rounding=Rounding.STOCHASTIC, random_bits=random_bits(x)),),
    "decode": lambda x: (decode(codes_from(x), "e5m2"),),
    "compute_scale-tensor": lambda x: (compute_scale(x, "int8", PER_TENSOR, rule=ScaleRule.FLOOR),),
    "compute_scale-channel": lambda x: tuple(compute_scale(x, "int8", per_group(3, axis=-2), symmetric=False)),
    "quantize_affine": lambda x: quantize_affine(x, "uint4", granularity=per_group(24), symmetric=False),
    "quantize_affine-channel": lambda x: quantize_affine(x, "int8", granularity=per_channel(-1, ndim=x.ndim)),
    "quantize_float": lambda x: quantize_float(x, "e4m3fn", granularity=per_block((2, 20))),
    "quantize_mx": lambda x: quantize_mx(x, "mxfp4"),
    "quantize_mx-first": lambda x: quantize_mx(x, "mxint8", axis=0),
    "quantize_mx-stochastic": lambda x: quantize_mx(
        x, "mxfp8_e5m2", rounding=Rounding.STOCHASTIC, random_bits=random_bits(x)
    ),
    "nvfp4": lambda x: quantize_mx(x, "nvfp4", nan=NanRule.MAX),
    "dequantize_affine": lambda x: (
        dequantize_affine(codes_from(x), compute_scale(x, "int8", PER_TOKEN), granularity=PER_TOKEN),
    ),
    "dequantize_float": lambda x: (
        dequantize_float(codes_from(x), compute_scale(x, "int8", PER_TOKEN), "e4m3fn", granularity=PER_TOKEN),
    ),
    "dequantize_mx": lambda x: (dequantize_mx(codes_from(x), block_scales(x), "mxfp8_e4m3"),),
    "int8_matmul": lambda x: (int8_matmul(codes_from(x), weight_of(x).view(torch.int8)),),
    "weight_only_matmul": lambda x: (weight_only_matmul(x, weight_of(x), torch.tensor(0.1), "e5m2"),),
    "fp8_matmul": lambda x: (
        fp8_matmul(
            codes_from(x),
            weight_of(x),
            compute_scale(x, "e4m3fn", PER_TOKEN),
            None,
            x_fmt="e5m2",
            w_fmt="e5m2",
            x_granularity=PER_TOKEN,
        ),
    ),
    "fp8_bmm": lambda x: (fp8_bmm(codes_from(x), codes_from(x).mT, None, None, x_fmt="e5m2", y_fmt="e4m3fn"),),
    "fp8_conv2d": lambda x: (fp8_conv2d(image_of(x), filter_of(x), None, None, x_fmt="e5m2", w_fmt="e5m2"),),
    "mx_matmul": lambda x: (
        mx_matmul(
            codes_from(x), weight_of(x), block_scales(x), block_scales(weight_of(x)), x_fmt="mxfp8_e5m2", w_fmt="mxfp4"
        ),
    ),
}

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.mT,
    "permuted": lambda x: x.permute(2, 0, 1),
    "strided": lambda x: x[:, ::2, ::3],
    "offset": lambda x: x[1:, 3:, 5:],
    "flipped": lambda x: x.flip(-1),
    "expanded": lambda x: x[:1, :, :1].expand(3, x.shape[1], 40),
    "window": lambda x: x.unfold(-1, 7, 1),
}


@pytest.mark.parametrize("shape", [(3, 10, 50), (4, 128, 300)], ids=["small", "large"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_view_is_its_copy(operation: str, view: str, shape: tuple[int, ...]) -> None:
    base = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = base.clone()
    x = VIEWS[view](base)
    run = OPERATIONS[operation]
    got, want = run(x), run(x.clone(memory_format=torch.contiguous_format))
    assert_same_bits(base, before)
    for one, other in zip(got, want, strict=True):
        assert one.is_contiguous()
        assert_same_bits(one, other)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "block" not in name])
def test_a_tensor_of_one_element(operation: str) -> None:
    x = torch.tensor([[[2.5]]])
    outputs = OPERATIONS[operation](x)
    assert all(output.numel() == 1 for output in outputs)


@pytest.mark.parametrize("value", [-0.0, 1.0, 448.0])
def test_a_tensor_without_dimensions(value: float) -> None:
    x = torch.tensor(value)
    code = encode(x, "e4m3fn")
    assert code.shape == ()
    assert_same_bits(decode(code, "e4m3fn"), x)
    codes, scale, zero_point = quantize_affine(x, "uint8", symmetric=False)
    assert codes.shape == scale.shape == zero_point.shape == ()
    assert_same_bits(dequantize_affine(codes, scale, zero_point), x + 0.0)
    codes, scale = quantize_float(x, "e4m3fn")
    assert_same_bits(dequantize_float(codes, scale, "e4m3fn"), x)


def test_meta_tensors_need_no_values() -> None:
    x = torch.empty(512, 256, device="meta")
    for part in (x, x[:2]):
        codes = encode(part, "e4m3fn")
        assert (codes.device.type, codes.shape, codes.dtype) == ("meta", part.shape, torch.uint8)
        assert decode(codes, "e4m3fn").device.type == "meta"
        assert compute_scale(part, "int8", PER_TOKEN).device.type == "meta"


def test_faked_tensors_leave_nothing_behind() -> None:
    x = torch.randn(1 << 17, generator=torch.Generator().manual_seed(0))
    fmt = "float8_e3m4"
    with FakeTensorMode():
        fake = decode(encode(torch.empty(1 << 17), fmt), fmt)
        assert fake.shape == x.shape
    assert torch.equal(decode(encode(x, fmt), fmt)[:100], decode(encode(x[:100], fmt), fmt))


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_large_and_small_tensors_decode_alike(dtype: torch.dtype, offset: int) -> None:
    codes = torch.randint(0, 256, ((1 << 17) + 3,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    large = decode(codes[offset:], "e5m2", dtype=dtype)
    assert_same_bits(large, torch.cat([decode(part, "e5m2", dtype=dtype) for part in codes[offset:].split(1000)]))
