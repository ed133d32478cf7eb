"""Judged by the formulas in Python arithmetic.

The quotient, product or sum of two binary32 in binary64, rounded to binary32, equals the one that is rounded once,
since 53 >= 2 * 24 + 2.
"""

import math
import struct

import pytest
import torch

from incref.algorithms.rtn import RATIOS, rtn
from incref.config.schemes import SCHEMES
from incref.errors import NanError, UnsupportedError
from incref.formats import FORMATS, CodebookFormat, Rounding, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, per_channel, per_group
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

W = torch.randn(4, 70, generator=torch.Generator().manual_seed(0))


def f32(x: float) -> float:
    """Round a double to the nearest binary32."""
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def groups(w: torch.Tensor, size: int) -> list[list[float]]:
    return [row[i : i + size] for row in w.tolist() for i in range(0, len(row), size)]


def ungroup(parts: list[list[float]], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor([x for part in parts for x in part]).view(like.shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [32, 128])
def test_symmetric_integers(bits: int, size: int) -> None:
    top = 2 ** (bits - 1) - 1
    values = []
    for group in groups(W, size):
        s = f32(max(map(abs, group)) / top)
        values.append([f32(min(max(round(f32(x / s)), -top - 1), top) * s) for x in group])
    q = rtn(W, QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=per_group(size)))
    assert torch.equal(q.dequantize(), ungroup(values, W))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_symmetric_integers_in_their_full_range(bits: int) -> None:
    values = []
    for group in groups(W, 32):
        extreme = max(group, key=lambda x: (abs(x), x < 0))
        s = f32(-extreme / 2 ** (bits - 1))
        codes = [min(max(round(f32(x / s)), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1) for x in group]
        values.append([f32(code * s) for code in codes])
    spec = QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=per_group(32), symmetric_scale=SymmetricScale.EXTREME)
    assert torch.equal(rtn(W, spec).dequantize(), ungroup(values, W))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_asymmetric_integers(bits: int) -> None:
    top = 2**bits - 1
    values = []
    for group in groups(W + 1, 32):
        lo, hi = min(*group, 0.0), max(*group, 0.0)
        s = f32(f32(hi - lo) / top)
        z = min(max(round(f32(-lo / s)), 0), top)
        values.append([f32((min(max(round(f32(x / s)) + z, 0), top) - z) * s) for x in group])
    spec = QuantSpec(fmt=FORMATS[f"uint{bits}"], granularity=per_group(32), symmetric=False)
    assert torch.equal(rtn(W + 1, spec).dequantize(), ungroup(values, W))


def test_codebook() -> None:
    nf4 = FORMATS["nf4"]
    assert isinstance(nf4, CodebookFormat)
    values = []
    for group in groups(W, 32):
        s = f32(max(map(abs, group)))
        nearest = [min(nf4.values, key=lambda v, x=x: abs(v - f32(x / s))) for x in group]
        values.append([f32(v * s) for v in nearest])
    q = rtn(W, QuantSpec(fmt=nf4, granularity=per_group(32)))
    assert torch.equal(q.dequantize(), ungroup(values, W))


def test_group_along_the_first_dimension_is_the_transpose() -> None:
    along_0 = rtn(W, QuantSpec(fmt=FORMATS["int4"], granularity=per_group(3, -2)))
    transposed = rtn(W.T, QuantSpec(fmt=FORMATS["int4"], granularity=per_group(3)))
    assert torch.equal(along_0.dequantize(), transposed.dequantize().T)


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.activation is None])
def test_every_scheme_is_the_operation_of_its_format(name: str) -> None:
    spec = SCHEMES[name].weight
    assert torch.equal(rtn(W, spec).dequantize(), QTensor.quantize(W, spec).dequantize())


@pytest.mark.parametrize("value", [1e-30, 1e-9, 1e6, 3e38])
def test_scales_keep_tiny_and_huge_weights(value: float) -> None:
    q = rtn(torch.full((2, 32), value), SCHEMES["int4_g32"].weight)
    assert torch.equal(q.codes, torch.full((2, 32), 7, dtype=torch.int8))
    # value / 7, then 7 times it: two roundings of at most 2**-24 each, so less than 2**-22 in all.
    assert math.isclose(q.dequantize()[0, 0].item(), value, rel_tol=2.0**-22)


def test_eight_bit_zero_points_do_not_wrap() -> None:
    w = torch.arange(256, dtype=torch.float32).view(1, 256)
    q = rtn(w, QuantSpec(fmt=FORMATS["uint8"], granularity=per_channel(), symmetric=False))
    assert torch.equal(q.dequantize(), w)


def test_the_weight_is_left_as_it_was() -> None:
    before = W.clone()
    rtn(W, SCHEMES["int4_g32"].weight, use_mse_search=True)
    assert torch.equal(W, before)


def test_ratios() -> None:
    assert (len(RATIOS), RATIOS[0], RATIOS[1], RATIOS[-1]) == (40, 1.0, 0.995, 0.805)


@pytest.mark.parametrize("symmetric", [True, False])
def test_search_finds_the_first_of_the_best_ratios(symmetric: bool) -> None:
    w = torch.cat([W, torch.full((4, 1), 9.0)], dim=1)
    errors = []
    for ratio in RATIOS:
        values = []
        for group in groups(w, 71):
            # The range shrinks in binary32, by the ratio rounded to it.
            lo, hi = f32(min(*group, 0.0) * f32(ratio)), f32(max(*group, 0.0) * f32(ratio))
            if symmetric:
                s = f32(max(-lo, hi) / 3)
                z, low, high = 0, -4, 3
            else:
                s = f32(f32(hi - lo) / 7)
                z, low, high = min(max(round(f32(-lo / s)), 0), 7), 0, 7
            values.append([f32((min(max(round(f32(x / s)) + z, low), high) - z) * s) for x in group])
        q = ungroup(values, w)
        errors.append((float((q.double() - w.double()).square().sum()), q))
    best = min(range(len(RATIOS)), key=lambda i: errors[i][0])
    assert best > 0
    spec = QuantSpec(fmt=FORMATS["int3" if symmetric else "uint3"], granularity=per_channel(), symmetric=symmetric)
    found = rtn(w, spec, use_mse_search=True)
    assert torch.equal(found.dequantize(), errors[best][1])


def test_search_keeps_the_whole_range_where_nothing_is_gained() -> None:
    w = torch.tensor([[-7.0, 3.0, 7.0]])
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_channel())
    assert torch.equal(rtn(w, spec, use_mse_search=True).scale, torch.ones(1, 1))


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "nf4"])
def test_search_never_makes_the_error_larger(name: str) -> None:
    spec = QuantSpec(fmt=FORMATS[name], granularity=per_group(32))

    def error(q: QTensor) -> float:
        return float((q.dequantize().double() - W.double()).square().sum())

    assert error(rtn(W, spec, use_mse_search=True)) <= error(rtn(W, spec))


def test_search_needs_float_scales() -> None:
    with pytest.raises(UnsupportedError, match="those of mxfp4 are not"):
        rtn(W, SCHEMES["mxfp4"].weight, use_mse_search=True)


def test_stochastic_rounding_is_reproducible() -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), rounding=Rounding.STOCHASTIC)
    nearest = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32))
    torch.manual_seed(1)
    first = rtn(W, spec)
    torch.manual_seed(2)
    assert torch.equal(first.packed, rtn(W, spec).packed)
    assert not torch.equal(first.packed, rtn(W, nearest).packed)


def test_nan_is_refused_by_formats_that_have_none() -> None:
    w = W.clone()
    w[1, 1] = torch.nan
    with pytest.raises(NanError):
        rtn(w, QuantSpec(fmt=FORMATS["int4"], granularity=PER_TENSOR))
