"""Column by column gives the bits that the operation of the format gives for the whole weight."""

import pytest
import torch

from incref.algorithms.columns import SHRINKS, column_quantizer
from incref.backends.discovery import find_kernel
from incref.errors import UnsupportedError
from incref.formats import FORMATS, IntRange, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_channel, per_group
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.gptq_update import gptq_update
from incref.qtensor.parts import dequantize_parts, quantize_parts
from incref.qtensor.spec import QuantSpec

SPECS = {
    "int4_g32": QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), symmetric_scale=SymmetricScale.SPAN),
    "int4_extreme": QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), symmetric_scale=SymmetricScale.EXTREME),
    "int4_restricted": QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), int_range=IntRange.RESTRICTED),
    "uint4_g20": QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(20), symmetric=False),
    "uint8_reciprocal": QuantSpec(
        fmt=FORMATS["uint8"],
        granularity=per_group(16),
        symmetric=False,
        arithmetic=ScaleArithmetic.RECIPROCAL,
        rule=ScaleRule.RECIPROCAL,
    ),
    "int3_per_row": QuantSpec(fmt=FORMATS["int3"], granularity=per_channel()),
    "int8_per_tensor": QuantSpec(fmt=FORMATS["int8"], granularity=PER_TENSOR),
    "uint4_along_0": QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(8, -2), symmetric=False),
    "int4_pow2": QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), rule=ScaleRule.RCEIL),
    "e4m3_block": QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=per_block((16, 16))),
    "e5m2_toward_zero": QuantSpec(fmt=FORMATS["float8_e5m2"], granularity=per_group(32), rounding=Rounding.TOWARD_ZERO),
    "e2m1_reciprocal": QuantSpec(
        fmt=FORMATS["float4_e2m1fn"], granularity=per_group(32), arithmetic=ScaleArithmetic.RECIPROCAL
    ),
    "nf4": QuantSpec(fmt=FORMATS["nf4"], granularity=per_group(32)),
    "mxfp8": QuantSpec(fmt=FORMATS["mxfp8_e4m3"], rule=ScaleRule.RCEIL),
    "mxfp6_away": QuantSpec(fmt=FORMATS["mxfp6_e2m3"], rounding=Rounding.NEAREST_AWAY),
    "mxfp4_toward_positive": QuantSpec(fmt=FORMATS["mxfp4"], rounding=Rounding.TOWARD_POSITIVE),
    "mxfp4_along_0": QuantSpec(fmt=FORMATS["mxfp4"], axis=0),
    "mxint8": QuantSpec(fmt=FORMATS["mxint8"], int_range=IntRange.FULL),
    "nvfp4": QuantSpec(fmt=FORMATS["nvfp4"]),
    "nvfp4_reciprocal": QuantSpec(fmt=FORMATS["nvfp4"], arithmetic=ScaleArithmetic.RECIPROCAL, nan=NanRule.ZERO),
    "nonsaturate": QuantSpec(
        fmt=FORMATS["mxfp8_e5m2"], overflow=Overflow.NONSATURATE, rule=ScaleRule.FLOOR, nan=NanRule.ZERO
    ),
}


def weight() -> torch.Tensor:
    """A matrix with a row of zeros, one of tiny values and one of a wide range."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(37, 70, generator=generator)
    w[3] = 0
    w[4] *= 2.0**-140
    w[5] *= torch.randn(70, generator=generator).mul(20).exp2()
    return w


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_equals_the_operation(spec: QuantSpec) -> None:
    w = weight()
    quantizer = column_quantizer(w, spec)
    codes, values, groups = [], [], []
    for group in w.split(quantizer.group_size, dim=1):
        scales = quantizer.scales(group)
        groups.append(scales)
        for column in group.unbind(1):
            code, value = quantizer.quantize(column, scales)
            codes.append(code)
            values.append(value)
    got, want = quantizer.assemble(torch.stack(codes, 1), groups), quantize_parts(w, spec)
    assert torch.equal(got.codes, want.codes)
    assert got.codes.dtype is want.codes.dtype
    assert torch.equal(got.scale, want.scale)
    assert got.scale.dtype is want.scale.dtype
    for mine, theirs in ((got.zero_point, want.zero_point), (got.tensor_scale, want.tensor_scale)):
        assert (mine is None) == (theirs is None)
        assert mine is None or theirs is None or torch.equal(mine, theirs)
    bits = dequantize_parts(want, spec, torch.float32).view(torch.int32)
    assert torch.equal(torch.stack(values, 1).view(torch.int32), bits)


@pytest.mark.parametrize("name", ["int4_g32", "uint4_g20", "e4m3_block", "int8_per_tensor"])
def test_search_finds_less_error(name: str) -> None:
    w, spec = torch.randn(37, 70, generator=torch.Generator().manual_seed(1)), SPECS[name]

    def error(*, use_mse_search: bool) -> torch.Tensor:
        quantizer = column_quantizer(w, spec, use_mse_search=use_mse_search)
        group = w[:, : quantizer.group_size]
        scales = quantizer.scales(group)
        values = torch.stack([quantizer.quantize(column, scales)[1] for column in group.unbind(1)], 1)
        rows = (values - group).abs().to(torch.float64).pow(2.4).sum(1)
        return rows.new_zeros(len(w)).index_add_(0, torch.arange(len(w)) // quantizer.rows, rows)

    before, after = error(use_mse_search=False), error(use_mse_search=True)
    assert bool((after <= before).all())
    assert bool((after < before).any())


def test_search_tries_what_it_says() -> None:
    w = torch.tensor([[1.0, 0.28, 0.29, -0.14]])
    spec = QuantSpec(fmt=FORMATS["int3"], granularity=per_channel())
    best, least = None, float("inf")
    for ratio in SHRINKS:
        parts = quantize_parts(w, spec, (w * ratio).abs().amax(1, keepdim=True) / 3)
        error = (dequantize_parts(parts, spec, torch.float32) - w).abs().double().pow(2.4).sum().item()
        if error < least:
            best, least = parts.scale, error
    assert best is not None
    assert torch.equal(column_quantizer(w, spec, use_mse_search=True).scales(w).scale, best)


def test_refuses_what_it_cannot_do() -> None:
    w = weight()
    with pytest.raises(UnsupportedError, match="take no random bits"):
        column_quantizer(w, QuantSpec(fmt=FORMATS["int4"], rounding=Rounding.STOCHASTIC))
    with pytest.raises(UnsupportedError, match="those of mxfp4 are not"):
        column_quantizer(w, QuantSpec(fmt=FORMATS["mxfp4"]), use_mse_search=True)
    with pytest.raises(UnsupportedError, match="nearest even"):
        column_quantizer(w, QuantSpec(fmt=FORMATS["int4"], rounding=Rounding.TOWARD_ZERO))


@pytest.mark.parametrize("symmetric", [True, False])
def test_columns_in_turn_are_those_of_gptq_update(symmetric: bool) -> None:
    if find_kernel("gptq_update", "cpu") is None:
        pytest.skip("no installed backend has gptq_update")
    w = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    upper = torch.randn(8, 8, generator=torch.Generator().manual_seed(1)).triu() + 3 * torch.eye(8)
    fmt = "int4" if symmetric else "uint4"
    spec = QuantSpec(fmt=FORMATS[fmt], granularity=per_group(8), symmetric=symmetric)
    quantizer = column_quantizer(w, spec)
    scales = quantizer.scales(w)
    found = quantizer.quantize_in_turn(w.T.contiguous(), upper, scales)
    assert found is not None
    codes, values, errors = found
    want = gptq_update(w, upper, scales.scale, fmt, scales.zero_point)
    assert torch.equal(codes.T, want[0])
    assert torch.equal(errors.T, want[1])
    back = dequantize_affine(want[0], scales.scale, scales.zero_point, granularity=PER_TOKEN)
    assert torch.equal(values.T, back)
