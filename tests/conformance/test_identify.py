"""Black boxes whose choices are known are recognized: PyTorch's casts, ml_dtypes', and kernels made to differ."""

import numpy as np
import pytest
import torch
from torch import Tensor

from conformance.faults.fp8_conv2d import ConvPairwise
from conformance.faults.fp8_matmul import Fp8AdaInFull, Fp8ResultToNearest, Fp8ScalesApart, Fp8TruncatingInFull
from conformance.faults.int8_matmul import Int8, PairsSaturate
from conformance.faults.kernel import Kernel
from conformance.faults.mx_matmul import MxWide
from conformance.faults.weight_only_matmul import WeightOnlyPairwise
from incref.conformance.identification import Identification
from incref.conformance.identify import identify
from incref.conformance.implementation import Candidate, kernel
from incref.formats import MX_PRESETS, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleOrder, ScaleRule
from incref.formats.layouts import PackLayout
from incref.numerics.accumulate.table import MACHINES
from incref.numerics.granularity import PER_TOKEN
from incref.ops import encode, pack, quantize_affine, quantize_mx

_SATURATES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)


@kernel("encode")
def torch_cast(x: Tensor, fmt: str) -> Tensor:
    return x.to(getattr(torch, fmt)).view(torch.uint8)


@kernel("encode")
def ml_dtypes_cast(x: Tensor, fmt: str) -> Tensor:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(all="ignore"):
        return torch.from_numpy(x.numpy().astype(getattr(ml_dtypes, fmt)).view(np.uint8))


def assert_exact(found: Identification) -> None:
    assert found.mismatches == 0, found
    assert found.total > 40


def test_casts_of_torch() -> None:
    e4m3 = identify(torch_cast, "float8_e4m3fn")
    assert_exact(e4m3)
    assert e4m3.options["rounding"] == "nearest_even"
    assert e4m3.options["overflow"] == ("saturate" if _SATURATES else "nonsaturate")
    e5m2 = identify(torch_cast, "float8_e5m2")
    assert_exact(e5m2)
    assert e5m2.options["nan_code"] == "all_ones"
    assert e5m2.options["overflow"] == "nonsaturate"


def test_casts_of_ml_dtypes() -> None:
    found = identify(ml_dtypes_cast, "float8_e4m3fn")
    assert_exact(found)
    assert found.options["overflow"] == "nonsaturate"
    assert any(one.option == "overflow" and one.other == "saturate" for one in found.differences)
    assert identify(ml_dtypes_cast, "float8_e5m2").options["nan_code"] == "contract"


@pytest.mark.parametrize("rounding", [Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO, Rounding.TOWARD_POSITIVE])
def test_roundings_are_told_apart(rounding: Rounding) -> None:
    box = Candidate(op="encode", fn=lambda x, fmt: encode(x, fmt, rounding=rounding, overflow=Overflow.SATURATE))
    found = identify(box, "float8_e5m2")
    assert_exact(found)
    assert found.options["rounding"] == rounding.value
    assert "rounding" not in found.undecided


@pytest.mark.parametrize("name", ["ocp", "transformer_engine", "microxcaling", "torchao_ceil"])
def test_presets_are_recognized(name: str) -> None:
    options = MX_PRESETS[name].options()
    box = Candidate(op="quantize_mx", fn=lambda x, fmt: quantize_mx(x, fmt, nan=NanRule.MAX, **options))
    found = identify(box, "mxfp8_e4m3")
    assert_exact(found)
    assert name in found.preset
    assert found.options["rule"] == options["rule"].value


@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
@pytest.mark.parametrize("rule", [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL])
def test_division_is_told_from_a_reciprocal(arithmetic: ScaleArithmetic, rule: ScaleRule) -> None:
    def quantize(x: Tensor, fmt: str) -> tuple[Tensor, ...]:
        return quantize_affine(x, fmt, granularity=PER_TOKEN, rule=rule, arithmetic=arithmetic)

    found = identify(Candidate(op="quantize_affine", fn=quantize), "int8")
    assert_exact(found)
    assert found.options["rule"] == rule.value
    assert found.options["arithmetic"] == arithmetic.value
    assert {"rule", "arithmetic"}.isdisjoint(found.undecided)


def test_an_order_of_packing_is_recognized() -> None:
    box = Candidate(op="pack", fn=lambda codes, fmt: pack(codes, fmt, layout=PackLayout.AWQ))
    found = identify(box, "uint4")
    assert_exact(found)
    assert found.options == {"layout": "awq"}


def test_what_is_none_of_them_is_said_to_be_near() -> None:
    def odd(x: Tensor, fmt: str) -> Tensor:
        return encode(x, fmt) ^ (x == 1.0)

    found = identify(Candidate(op="encode", fn=odd), "float8_e4m3fn")
    assert 1 <= found.mismatches <= 2
    assert found.options["rounding"] == "nearest_even"


@pytest.mark.parametrize(
    ("box", "fmt", "accumulator", "order"),
    [
        (Fp8TruncatingInFull, "float8_e4m3fn", "hopper_wgmma_fp8", "product"),
        (Fp8AdaInFull, "float8_e5m2", "ada_mma_fp8", "product"),
        (Fp8ScalesApart, "float8_e5m2", "sequential", "x_then_w"),
        (ConvPairwise, "float8_e4m3fn", "pairwise", "product"),
        (WeightOnlyPairwise, "bfloat16", "pairwise", None),
        (MxWide, "mxfp4", "exact", None),
        (Int8, "uint8", "int32", "x_then_w"),
    ],
    ids=str,
)
def test_products_are_recognized(box: type[Kernel], fmt: str, accumulator: str, order: str | None) -> None:
    found = identify(box().candidate(), fmt)
    assert_exact(found)
    assert (found.options["accumulator"], found.options.get("order")) == (accumulator, order)
    assert found.preset == ((accumulator,) if accumulator in MACHINES else ())
    others = {one.other for one in found.differences}
    if box is not Int8:
        assert {"exact", "pairwise", "sequential"} - {accumulator} <= others | set(
            found.undecided.get("accumulator", ())
        )
    if order is not None:
        assert {one.value for one in ScaleOrder} - {order} <= others


def test_few_products_tell_accumulators_apart() -> None:
    found = identify(Fp8TruncatingInFull().candidate(), "float8_e4m3fn")
    (first,) = (one for one in found.differences if one.other == "sequential")
    assert first.given.count("*") == 2
    terms = [(float(part.split()[0]), float(part.split()[2])) for part in first.given.split(" + ")]
    exact = sum(x * w for x, w in terms)
    assert float(first.would_be) == exact != float(first.got)


def test_an_accumulator_that_is_none_of_them_is_said_to_be_near() -> None:
    found = identify(Fp8ResultToNearest().candidate(), "float8_e4m3fn")
    assert 0 < found.mismatches < found.total
    assert found.options["accumulator"] in {"hopper_wgmma_fp8", "hopper_wgmma_fp8_promoted"}
    assert found.preset == ()
    assert "sums differ" in found.options["nearest_machine"]
    assert " gives " in found.first_unexplained


def test_integers_of_a_narrow_accumulator() -> None:
    found = identify(PairsSaturate().candidate(), "uint8")
    assert found.options["accumulator"] == "int16 that saturates, for pairs of products"
    assert found.mismatches == 0
    assert any(one.other == "int32" and (one.got, one.would_be) == ("32767", "64770") for one in found.differences)


def test_factors_of_another_kind_are_refused() -> None:
    for box, fmt in ((Fp8TruncatingInFull, "mxfp4"), (WeightOnlyPairwise, "int8"), (MxWide, "float8_e5m2")):
        with pytest.raises(ValueError, match="is asked with float factors of its own formats"):
            identify(box().candidate(), fmt)
    with pytest.raises(ValueError, match="integer sums are those of int8_matmul"):
        identify(Int8().candidate(), "int4")


def test_other_operations_are_refused() -> None:
    with pytest.raises(ValueError, match="what can be identified is"):
        identify(Candidate(op="decode", fn=lambda *_: None), "int8")
