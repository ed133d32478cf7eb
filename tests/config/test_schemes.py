from dataclasses import replace

import pytest

from incref.config.fp8 import FP8Config
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.method import GPTQ, ColumnOrder
from incref.config.schemes import SCHEMES
from incref.formats import BlockFormat, SymmetricScale
from incref.numerics.granularity import PER_TOKEN, per_channel

WEIGHT_ONLY = [
    ("int8", "int8"),
    ("int4_g128", "int4"),
    ("int4_g32", "int4"),
    ("int4_asym_g128", "uint4"),
    ("fp8_e4m3", "float8_e4m3fn"),
    ("fp8_e5m2", "float8_e5m2"),
    *[(n, n) for n in ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4")],
]
WITH_INPUT = [
    ("fp8_e4m3_w8a8", "fp8_e4m3"),
    ("fp8_e5m2_w8a8", "fp8_e5m2"),
    ("mxfp8_e4m3_w8a8", "mxfp8_e4m3"),
    ("mxfp6_e2m3_w6a6", "mxfp6_e2m3"),
    ("mxfp6_e3m2_w6a6", "mxfp6_e3m2"),
    ("mxfp4_w4a4", "mxfp4"),
    ("mxint8_w8a8", "mxint8"),
    ("nvfp4_w4a4", "nvfp4"),
]


CALIBRATED = [
    ("gptq_int4_g128", "int4"),
    ("gptq_int4_g128_act_order", "int4"),
    ("gptq_int4_g128_refined", "int4"),
    ("gptq_int4_g128_act_order_refined", "int4"),
    ("gptq_mxfp4", "mxfp4"),
    ("gptq_nvfp4", "nvfp4"),
]


FP8 = ["fp8_e4m3_blocks", "fp8_e4m3_static", "fp8_gaudi2_static"]
ATTENTION = [("mxfp8_e4m3_w8a8_attention", "mxfp8_e4m3_w8a8"), ("mxfp4_w4a4_attention", "mxfp4_w4a4")]
INTEGERS = ["int8_dynamic", "int8_static", "int8_smoothquant"]


def test_names() -> None:
    floats = [name for name, _ in WEIGHT_ONLY + WITH_INPUT]
    attention = [name for name, _ in ATTENTION]
    assert list(SCHEMES) == [*floats, *FP8, *attention, *INTEGERS, *(name for name, _ in CALIBRATED)]


def test_scaled_fp8() -> None:
    blocks, static, gaudi = (SCHEMES[name] for name in FP8)
    assert blocks.weight.scale_shape((256, 300)) == (2, 3)
    assert blocks.activation is not None
    assert blocks.activation.scale_shape((5, 300)) == (5, 3)
    assert (static.is_static, static.weight.scale_shape((256, 300))) == (True, ())
    assert static.input_scale == MaxAbsScale(value=ScaleValue.ANY)
    assert gaudi == FP8Config(target="gaudi2").scheme()


@pytest.mark.parametrize(("name", "without"), ATTENTION)
def test_attention(name: str, without: str) -> None:
    scheme = SCHEMES[name]
    assert scheme.inputs is not None
    assert scheme.inputs.activation == scheme.activation
    assert replace(scheme, inputs=None) == SCHEMES[without]


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    scheme = SCHEMES[name]
    assert scheme.activation is not None
    assert scheme.is_static == (name != "int8_dynamic")
    assert (scheme.weight.fmt.name, scheme.activation.fmt.name) == ("int8", "uint8")
    assert scheme.weight.granularity == per_channel()


@pytest.mark.parametrize(("name", "fmt"), CALIBRATED)
def test_calibrated(name: str, fmt: str) -> None:
    scheme = SCHEMES[name]
    assert scheme.weight.fmt.name == fmt
    assert isinstance(scheme.method, GPTQ)
    assert (scheme.method.order is ColumnOrder.DESCENDING) == ("act_order" in name)
    assert scheme.method.refine_sweeps == name.endswith("refined")
    assert (scheme.weight.symmetric_scale is SymmetricScale.SPAN) == (fmt == "int4")


@pytest.mark.parametrize(("name", "fmt"), WEIGHT_ONLY)
def test_weight_only(name: str, fmt: str) -> None:
    assert SCHEMES[name].weight.fmt.name == fmt
    assert SCHEMES[name].activation is None


@pytest.mark.parametrize(("name", "weight"), WITH_INPUT)
def test_with_input(name: str, weight: str) -> None:
    scheme = SCHEMES[name]
    assert scheme.weight == SCHEMES[weight].weight
    assert scheme.activation is not None
    assert scheme.activation.fmt is scheme.weight.fmt
    if isinstance(scheme.weight.fmt, BlockFormat):
        assert scheme.activation == scheme.weight
    else:
        assert (scheme.weight.granularity, scheme.activation.granularity) == (per_channel(), PER_TOKEN)


@pytest.mark.parametrize(
    ("name", "shape"), [("int8", (64, 1)), ("int4_g128", (64, 3)), ("int4_g32", (64, 10)), ("int4_asym_g128", (64, 3))]
)
def test_scales_of_integers(name: str, shape: tuple[int, int]) -> None:
    assert SCHEMES[name].weight.scale_shape((64, 300)) == shape
