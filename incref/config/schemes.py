"""Named schemes, one row each."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from incref.config.fp8 import FP8Config
from incref.config.int8_dynamic import DynamicQuantConfig
from incref.config.int8_static import INT8StaticQuantConfig
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.method import GPTQ, ColumnOrder
from incref.config.scheme import InputScheme, LayerScheme
from incref.config.smooth_quant import SmoothQuantConfig
from incref.formats import FORMATS, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.qtensor.spec import QuantSpec

__all__ = ["SCHEMES"]


def _int(bits: int, granularity: Granularity, *, symmetric: bool = True) -> LayerScheme:
    fmt = FORMATS[f"{'int' if symmetric else 'uint'}{bits}"]
    return LayerScheme(weight=QuantSpec(fmt=fmt, granularity=granularity, symmetric=symmetric))


def _int_span(bits: int, granularity: Granularity) -> QuantSpec:
    """The symmetric grid of GPTQ, half a step beyond either end code."""
    return QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=granularity, symmetric_scale=SymmetricScale.SPAN)


def _gptq(weight: QuantSpec, order: ColumnOrder = ColumnOrder.GIVEN, *, sweeps: int = 0) -> LayerScheme:
    return LayerScheme(weight=weight, method=GPTQ(order=order, refine_sweeps=sweeps))


def _float(name: str, *, is_dynamic: bool = False) -> LayerScheme:
    weight = QuantSpec(fmt=FORMATS[name], granularity=per_channel())
    activation = QuantSpec(fmt=FORMATS[name], granularity=PER_TOKEN)
    return LayerScheme(weight=weight, activation=activation if is_dynamic else None)


def _block(name: str, *, is_dynamic: bool = False) -> LayerScheme:
    spec = QuantSpec(fmt=FORMATS[name])
    return LayerScheme(weight=spec, activation=spec if is_dynamic else None)


def _fp8_static() -> LayerScheme:
    spec = QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=PER_TENSOR)
    return LayerScheme(weight=spec, activation=spec, input_scale=MaxAbsScale(value=ScaleValue.ANY), is_static=True)


def _fp8_blocks() -> LayerScheme:
    """The blocks of arXiv 2412.19437, 3.3.1."""
    fmt = FORMATS["float8_e4m3fn"]
    weight = QuantSpec(fmt=fmt, granularity=per_block((128, 128)))
    return LayerScheme(weight=weight, activation=QuantSpec(fmt=fmt, granularity=per_group(128)))


def _fp8_gaudi2() -> LayerScheme:
    scheme = FP8Config(target="gaudi2").scheme()
    assert scheme is not None
    return scheme


def _with_attention(scheme: LayerScheme) -> LayerScheme:
    assert scheme.activation is not None
    return replace(scheme, inputs=InputScheme(activation=scheme.activation))


def _int8_dynamic() -> LayerScheme:
    scheme = DynamicQuantConfig(w_granularity="per_channel", act_granularity="per_token").scheme()
    assert scheme is not None
    return scheme


def _int8_static() -> LayerScheme:
    scheme = INT8StaticQuantConfig().scheme()
    assert scheme is not None
    return scheme


def _int8_smoothquant() -> LayerScheme:
    scheme = SmoothQuantConfig().scheme()
    assert scheme is not None
    return scheme


SCHEMES: Mapping[str, LayerScheme] = MappingProxyType(
    {
        "int8": _int(8, per_channel()),
        "int4_g128": _int(4, per_group(128)),
        "int4_g32": _int(4, per_group(32)),
        "int4_asym_g128": _int(4, per_group(128), symmetric=False),
        "fp8_e4m3": _float("float8_e4m3fn"),
        "fp8_e5m2": _float("float8_e5m2"),
        "mxfp8_e4m3": _block("mxfp8_e4m3"),
        "mxfp8_e5m2": _block("mxfp8_e5m2"),
        "mxfp6_e2m3": _block("mxfp6_e2m3"),
        "mxfp6_e3m2": _block("mxfp6_e3m2"),
        "mxfp4": _block("mxfp4"),
        "mxint8": _block("mxint8"),
        "nvfp4": _block("nvfp4"),
        "fp8_e4m3_w8a8": _float("float8_e4m3fn", is_dynamic=True),
        "fp8_e5m2_w8a8": _float("float8_e5m2", is_dynamic=True),
        "mxfp8_e4m3_w8a8": _block("mxfp8_e4m3", is_dynamic=True),
        "mxfp6_e2m3_w6a6": _block("mxfp6_e2m3", is_dynamic=True),
        "mxfp6_e3m2_w6a6": _block("mxfp6_e3m2", is_dynamic=True),
        "mxfp4_w4a4": _block("mxfp4", is_dynamic=True),
        "mxint8_w8a8": _block("mxint8", is_dynamic=True),
        "nvfp4_w4a4": _block("nvfp4", is_dynamic=True),
        "fp8_e4m3_blocks": _fp8_blocks(),
        "fp8_e4m3_static": _fp8_static(),
        "fp8_gaudi2_static": _fp8_gaudi2(),
        "mxfp8_e4m3_w8a8_attention": _with_attention(_block("mxfp8_e4m3", is_dynamic=True)),
        "mxfp4_w4a4_attention": _with_attention(_block("mxfp4", is_dynamic=True)),
        "int8_dynamic": _int8_dynamic(),
        "int8_static": _int8_static(),
        "int8_smoothquant": _int8_smoothquant(),
        "gptq_int4_g128": _gptq(_int_span(4, per_group(128))),
        "gptq_int4_g128_act_order": _gptq(_int_span(4, per_group(128)), ColumnOrder.DESCENDING),
        "gptq_int4_g128_refined": _gptq(_int_span(4, per_group(128)), sweeps=1),
        "gptq_int4_g128_act_order_refined": _gptq(_int_span(4, per_group(128)), ColumnOrder.DESCENDING, sweeps=1),
        "gptq_mxfp4": _gptq(_block("mxfp4").weight),
        "gptq_nvfp4": _gptq(_block("nvfp4").weight),
    }
)
"""Weights as the name says; `wXaY` quantizes the input too, along its last dimension, with scales of every call.
`fp8_e4m3_blocks` too, 128 neighbours of it at a time; `..._attention` the factors of attention's products, besides.
`int8_...` quantizes the input and multiplies integers. `..._refined` goes on with coordinate descent where GPTQ ends.
`gptq_...`, `..._static` and `int8_smoothquant` need calibration data."""
