from fractions import Fraction

import pytest
import torch
from torch import Tensor

from incref.errors import NanError
from incref.formats import FORMATS, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, per_group
from incref.qtensor.qtensor import QTensor
from incref.qtensor.quantized_scales import dequantize_scales, quantize_scales
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec
from incref.qtensor.spec import QuantSpec
from tests.qtensor.test_scale_spec import integers

SYMMETRIC = ScaleSpec(fmt=integers("int8"), group_size=4)
OFFSET = ScaleSpec(fmt=integers("uint6"), symmetric=False, group_size=4)


def scales(n: int, k: int) -> Tensor:
    return torch.rand(n, k, generator=torch.Generator().manual_seed(0)) + 2.0**-10


@pytest.mark.parametrize("run", ScaleRun)
@pytest.mark.parametrize("spec", [SYMMETRIC, OFFSET], ids=["symmetric", "offset"])
def test_every_scale_is_within_half_a_step(spec: ScaleSpec, run: ScaleRun) -> None:
    spec = ScaleSpec(fmt=spec.fmt, symmetric=spec.symmetric, group_size=spec.group_size, run=run)
    s = scales(5, 7)
    quantized = quantize_scales(s, spec)
    got = dequantize_scales(quantized, spec)
    assert quantized.codes.shape == s.shape
    assert quantized.step.shape == spec.step_shape(s.shape)
    listed = (s.T if run is ScaleRun.COLUMNS else s.reshape(1, -1)).tolist()
    values = (got.T if run is ScaleRun.COLUMNS else got.reshape(1, -1)).tolist()
    for index, (row, found) in enumerate(zip(listed, values, strict=True)):
        for place, (want, value) in enumerate(zip(row, found, strict=True)):
            step = quantized.step[index, place // 4].item()
            # Half a step, and the roundings of three operations on numbers below 2.
            assert abs(Fraction(want) - Fraction(value)) <= Fraction(step) / 2 + Fraction(3, 2**24)


def test_the_least_of_a_group_is_kept() -> None:
    s = torch.tensor([[3.0, 5.0, 3.9, 3.5, 7.0]])
    quantized = quantize_scales(s, OFFSET)
    assert quantized.low is not None
    assert quantized.low.tolist() == [[3.0, 7.0]]
    assert quantized.codes.tolist() == [[0, 63, 28, 16, 0]]
    assert dequantize_scales(quantized, OFFSET)[0, [0, 4]].tolist() == [3.0, 7.0]


def test_no_scale_becomes_zero() -> None:
    s = torch.tensor([[1.0, 1e-9, -1e-9, -1.0]])
    quantized = quantize_scales(s, SYMMETRIC)
    assert quantized.codes.tolist() == [[127, 1, -1, -127]]
    assert bool((dequantize_scales(quantized, SYMMETRIC) != 0).all())


def test_a_group_of_equal_scales() -> None:
    s = torch.full((2, 3), 0.7)
    assert torch.equal(dequantize_scales(quantize_scales(s, OFFSET), OFFSET), s)


def test_nan_is_an_error() -> None:
    with pytest.raises(NanError):
        quantize_scales(torch.tensor([[torch.nan, 1.0]]), SYMMETRIC)


def spec_of(fmt: str, scale: ScaleSpec, *, symmetric: bool = True) -> QuantSpec:
    return QuantSpec(fmt=FORMATS[fmt], granularity=per_group(8), symmetric=symmetric, scales=scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "spec",
    [
        spec_of("int4", SYMMETRIC),
        spec_of("uint4", OFFSET, symmetric=False),
        spec_of("nf4", OFFSET),
        spec_of("float8_e4m3fn", ScaleSpec(fmt=integers("int3"), group_size=5, run=ScaleRun.COLUMNS)),
    ],
    ids=str,
)
def test_codes_are_those_of_the_dequantized_scales(spec: QuantSpec, dtype: torch.dtype) -> None:
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    q = QTensor.quantize(x, spec)
    assert q.parts.scale.dtype is torch.float32
    plain = QuantSpec(fmt=spec.fmt, granularity=spec.granularity, symmetric=spec.symmetric)
    want = QTensor.quantize(x, plain, q.parts.scale, q.parts.zero_point)
    assert torch.equal(q.codes, want.codes)
    assert torch.equal(q.dequantize(), want.dequantize())
    assert q.nbytes == spec.stored_bytes(x.shape) < QTensor.quantize(x, plain).nbytes
    back = QTensor.from_tensors(q.to_tensors(), q.metadata())
    assert back.spec == spec
    assert torch.equal(back.dequantize(), q.dequantize())


def test_tensors_that_do_not_fit_are_refused() -> None:
    q = QTensor.quantize(torch.randn(6, 20), spec_of("int4", SYMMETRIC))
    tensors = q.to_tensors()
    for change, message in (
        ({"scale_step": None}, "scale_step is missing"),
        ({"scale_low": torch.ones(1, 5)}, "scale_low is for scales"),
        ({"scale_step": torch.ones(2, 5)}, r"scale_step must be torch.float32 of shape \(1, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            QTensor(**{**tensors, **change}, spec=q.spec, shape=q.shape, dtype=q.dtype)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fmt": FORMATS["mxfp4"]}, "scales of mxfp4 are codes already"),
        ({"fmt": FORMATS["int4"], "granularity": PER_TENSOR}, "one scale for all"),
        (
            {"fmt": FORMATS["int4"], "granularity": per_group(8), "symmetric_scale": SymmetricScale.EXTREME},
            "scales of both signs",
        ),
    ],
)
def test_scales_that_can_not_be_quantized(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantSpec(**fields, scales=OFFSET)  # type: ignore[arg-type]  # the cases have the right types
