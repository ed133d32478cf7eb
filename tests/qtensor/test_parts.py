from dataclasses import replace

import pytest
import torch

from incref.config.schemes import SCHEMES
from incref.formats import FORMATS, Rounding, ScaleRule, SymmetricScale
from incref.numerics.granularity import per_group
from incref.numerics.scaled import round_to_half
from incref.ops.decode import decode
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.dequantize_float import dequantize_float
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.quantize_affine import quantize_affine
from incref.ops.quantize_float import quantize_float
from incref.ops.quantize_mx import quantize_mx
from incref.qtensor.parts import dequantize_parts, draw_random_bits, fake_quantize, quantize_parts
from incref.qtensor.spec import QuantSpec

X = torch.randn(5, 70, generator=torch.Generator().manual_seed(0))
G32 = per_group(32)


def test_integers_are_quantized_by_quantize_affine() -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=G32, symmetric_scale=SymmetricScale.EXTREME)
    codes, scale = quantize_affine(X, "int4", granularity=G32, symmetric_scale=SymmetricScale.EXTREME)[:2]
    parts = quantize_parts(X, spec)
    assert torch.equal(parts.codes, codes)
    assert torch.equal(parts.scale, scale)
    assert (parts.zero_point, parts.tensor_scale) == (None, None)
    assert torch.equal(dequantize_parts(parts, spec, X.dtype), dequantize_affine(codes, scale, granularity=G32))


def test_asymmetric_integers_have_zero_points() -> None:
    spec = QuantSpec(fmt=FORMATS["uint4"], granularity=G32, symmetric=False)
    codes, scale, zero_point = quantize_affine(X, "uint4", granularity=G32, symmetric=False)
    parts = quantize_parts(X, spec)
    assert parts.zero_point is not None
    assert torch.equal(parts.zero_point, zero_point)
    values = dequantize_affine(codes, scale, zero_point, granularity=G32)
    assert torch.equal(dequantize_parts(parts, spec, X.dtype), values)


@pytest.mark.parametrize("name", ["float8_e5m2", "float4_e2m1fn", "nf4"])
def test_floats_and_codebooks_are_quantized_by_quantize_float(name: str) -> None:
    spec = QuantSpec(fmt=FORMATS[name], granularity=G32, rounding=Rounding.TOWARD_ZERO)
    codes, scale = quantize_float(X, name, granularity=G32, rounding=Rounding.TOWARD_ZERO)
    parts = quantize_parts(X, spec)
    assert torch.equal(parts.codes, codes)
    assert torch.equal(dequantize_parts(parts, spec, X.dtype), dequantize_float(codes, scale, name, granularity=G32))


@pytest.mark.parametrize("axis", [-1, 0])
def test_blocks_are_quantized_by_quantize_mx(axis: int) -> None:
    spec = QuantSpec(fmt=FORMATS["mxfp4"], axis=axis, rule=ScaleRule.RCEIL)
    codes, scale = quantize_mx(X, "mxfp4", axis=axis, rule=ScaleRule.RCEIL)[:2]
    parts = quantize_parts(X, spec)
    assert torch.equal(parts.codes, codes)
    assert torch.equal(parts.scale, scale)
    assert torch.equal(dequantize_parts(parts, spec, X.dtype), dequantize_mx(codes, scale, "mxfp4", axis=axis))


def test_nvfp4_has_a_tensor_scale() -> None:
    parts = quantize_parts(X, QuantSpec(fmt=FORMATS["nvfp4"]))
    assert parts.tensor_scale is not None
    assert parts.tensor_scale.item() == (X.abs().max() / torch.tensor(6.0 * 448.0)).item()


def test_given_scales_are_used() -> None:
    spec = QuantSpec(fmt=FORMATS["int8"])
    parts = quantize_parts(torch.tensor([1.0, -3.0, 1000.0]), spec, torch.tensor(0.5))
    assert parts.codes.tolist() == [2, -6, 127]
    asymmetric = QuantSpec(fmt=FORMATS["uint8"], symmetric=False)
    zero_point = torch.tensor(7, dtype=torch.int32)
    parts = quantize_parts(torch.tensor([1.0, -3.0, 1000.0]), asymmetric, torch.tensor(0.5), zero_point)
    assert parts.codes.tolist() == [9, 1, 255]


def test_blocks_take_no_scales() -> None:
    with pytest.raises(ValueError, match="the scales of mxfp4 follow from its values"):
        quantize_parts(X, QuantSpec(fmt=FORMATS["mxfp4"]), torch.ones(5, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["int8", "fp8_e4m3", "mxfp4", "nvfp4"])
def test_fake_quantize_keeps_the_dtype(name: str, dtype: torch.dtype) -> None:
    spec = SCHEMES[name].weight
    x = X.to(dtype)
    y = fake_quantize(x, spec)
    assert y.dtype is dtype
    assert torch.equal(y, dequantize_parts(quantize_parts(x, spec), spec, dtype))


def test_random_bits_are_drawn_for_stochastic_rounding_only() -> None:
    assert draw_random_bits(X, Rounding.NEAREST_EVEN) is None
    bits = draw_random_bits(X, Rounding.STOCHASTIC, torch.Generator().manual_seed(3))
    again = draw_random_bits(X, Rounding.STOCHASTIC, torch.Generator().manual_seed(3))
    assert bits is not None
    assert again is not None
    assert (bits.shape, bits.dtype) == (X.shape, torch.int32)
    assert torch.equal(bits, again)
    assert bits.min() < 0 < bits.max()


def test_random_bits_decide() -> None:
    spec = QuantSpec(fmt=FORMATS["int8"], rounding=Rounding.STOCHASTIC)
    x, scale = torch.tensor([0.25, 0.25]), torch.tensor(1.0)
    # 0.25 goes up where 2**30 + R reaches 2**32, R read as unsigned.
    bits = torch.tensor([-(1 << 30), -(1 << 30) - 1], dtype=torch.int32)
    assert quantize_parts(x, spec, scale, random_bits=bits).codes.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("source", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32)),
        QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(32), symmetric=False),
        QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=per_group(32)),
    ],
    ids=str,
)
def test_codes_are_chosen_for_the_scales_that_are_rounded(
    spec: QuantSpec, source: torch.dtype, dtype: torch.dtype
) -> None:
    # So many that some lie where a change of the scale moves them to another code.
    x = torch.randn(256, 512, generator=torch.Generator().manual_seed(0), dtype=source)
    parts = quantize_parts(x, replace(spec, scale_dtype=dtype))
    exact = quantize_parts(x, spec)
    assert parts.scale.dtype is source
    # PyTorch takes float64 to 16 bits through float32.
    assert torch.equal(parts.scale, round_to_half(exact.scale, dtype).to(dtype).to(source))
    again = quantize_parts(x, spec, parts.scale, exact.zero_point)
    assert torch.equal(parts.codes, again.codes)
    assert not torch.equal(parts.codes, exact.codes)


@pytest.mark.parametrize("size", [1e-9, 1e7])
def test_scales_beyond_the_range_of_their_dtype_are_refused(size: float) -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), scale_dtype=torch.float16)
    with pytest.raises(ValueError, match=r"scales must be in the range of torch\.float16, got .*; take a wider"):
        quantize_parts(torch.full((1, 32), size), spec)
    assert quantize_parts(torch.full((1, 32), size), replace(spec, scale_dtype=torch.bfloat16)).codes.amax() == 7


def test_a_group_of_zeros_keeps_its_scale() -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), scale_dtype=torch.float16)
    assert not quantize_parts(torch.zeros(1, 32), spec).codes.any()


def test_a_scale_of_the_tensor_that_divides_those_of_blocks() -> None:
    parts = quantize_parts(X[:, :64], QuantSpec(fmt=FORMATS["nvfp4"]))
    divided = replace(parts, tensor_scale=torch.tensor(3.0))
    values = decode(parts.codes, "e2m1").unflatten(1, (4, 16))
    factor = decode(parts.scale, "e4m3fn") / 3.0
    spec = QuantSpec(fmt=FORMATS["nvfp4"], tensor_scale_divides=True)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(dequantize_parts(divided, spec, dtype), (values * factor[..., None]).flatten(1).to(dtype))
    lengthwise = replace(divided, codes=parts.codes.T.contiguous(), scale=parts.scale.T.contiguous())
    for axis in (0, -2):
        turned = dequantize_parts(lengthwise, replace(spec, axis=axis), torch.float32)
        assert torch.equal(turned.T, dequantize_parts(divided, spec, torch.float32))
    with pytest.raises(ValueError, match="is for weights that were quantized elsewhere"):
        quantize_parts(X, spec)
