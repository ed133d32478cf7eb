import inspect

import pytest
from torch import nn

from incref.config.mx import MXQuantConfig, get_default_mx_config
from incref.config.scheme import Elementwise
from incref.formats import FORMATS, BlockFormat, BlockRule, FloatFormat, IntRange, Rounding, ScaleRule
from incref.formats.presets import MX_PRESETS
from incref.nn.matmul import Matmul


def test_names_order_and_defaults_are_those_that_callers_know() -> None:
    assert {name: p.default for name, p in inspect.signature(MXQuantConfig).parameters.items()} == {
        "w_dtype": "int8",
        "act_dtype": "int8",
        "out_dtype": "bfloat16",
        "blocksize": 32,
        "round_method": "nearest",
        "weight_only": False,
        "white_list": "*",
        "scale_rule": "floor",
        "preset": "",
    }
    assert get_default_mx_config() == MXQuantConfig()


def test_the_default() -> None:
    scheme = MXQuantConfig().scheme()
    assert scheme.weight == scheme.activation
    assert scheme.weight.fmt is FORMATS["mxint8"]
    assert (scheme.weight.rule, scheme.weight.int_range) == (ScaleRule.FLOOR, IntRange.RESTRICTED)
    bf16 = FORMATS["bfloat16"]
    assert isinstance(bf16, FloatFormat)
    assert scheme.elementwise == Elementwise(fmt=bf16, rounding=Rounding.NEAREST_AWAY)


@pytest.mark.parametrize(
    ("dtype", "element", "qmax", "emax"),
    [
        # The largest magnitude and its exponent, in units of a block's scale up to a power of two.
        ("int8", "mxint8_element", 127 / 64, 0),
        ("int4", "int4", 7.0, 2),
        ("int2", "int2", 1.0, 0),
        ("fp8_e5m2", "float8_e5m2", 57344.0, 15),
        ("fp8_e4m3", "float8_e4m3fn", 448.0, 8),
        ("fp6_e3m2", "float6_e3m2fn", 28.0, 4),
        ("fp6_e2m3", "float6_e2m3fn", 7.5, 2),
        ("fp4", "float4_e2m1fn", 6.0, 2),
        ("float16", "float16", 65504.0, 15),
        ("bfloat16", "bfloat16", 2.0**127 * (2 - 2.0**-7), 127),
    ],
)
def test_dtypes(dtype: str, element: str, qmax: float, emax: int) -> None:
    scheme = MXQuantConfig(w_dtype=dtype, act_dtype="fp4").scheme()
    found = scheme.weight.element
    assert (found.name, found.qmax, found.emax) == (element, qmax, emax)
    assert scheme.activation is not None
    assert scheme.activation.fmt is FORMATS["mxfp4"]


def test_blocksize() -> None:
    fmt = MXQuantConfig(w_dtype="fp4", blocksize=16).scheme().weight.fmt
    assert isinstance(fmt, BlockFormat)
    assert (fmt.block_size, fmt.element, fmt.has_tensor_scale) == (16, FORMATS["float4_e2m1fn"], False)
    assert fmt.name == "mxfp4_block16"
    assert MXQuantConfig(w_dtype="fp4", blocksize=32).scheme().weight.fmt is FORMATS["mxfp4"]


@pytest.mark.parametrize(
    ("method", "rounding"),
    [
        ("nearest", Rounding.NEAREST_AWAY),
        ("even", Rounding.NEAREST_EVEN),
        ("floor", Rounding.TOWARD_ZERO),
        ("dither", Rounding.STOCHASTIC),
    ],
)
def test_round_method_is_for_all_roundings(method: str, rounding: Rounding) -> None:
    scheme = MXQuantConfig(round_method=method).scheme()
    assert scheme.activation is not None
    assert scheme.elementwise is not None
    assert {scheme.weight.rounding, scheme.activation.rounding, scheme.elementwise.rounding} == {rounding}


def test_weight_only_leaves_inputs_alone() -> None:
    assert MXQuantConfig(weight_only=True).scheme().activation is None


def test_out_dtype() -> None:
    assert MXQuantConfig(out_dtype="float32").scheme().elementwise is None
    elementwise = MXQuantConfig(out_dtype="float16").scheme().elementwise
    assert elementwise is not None
    assert elementwise.fmt is FORMATS["float16"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"w_dtype": "float32"}, "w_dtype must be one of int8, int4, .*, bfloat16, .*, nvfp4, got 'float32'"),
        ({"act_dtype": "fp5"}, "act_dtype must be one of int8, .*, got 'fp5'"),
        ({"out_dtype": "int8"}, "out_dtype must be one of bfloat16, float16, float32, got 'int8'"),
        ({"blocksize": 0}, "blocksize must be positive, got 0"),
        ({"round_method": "up"}, "round_method must be one of nearest, even, floor, dither, got 'up'"),
        ({"act_dtype": "fp5", "weight_only": True}, "act_dtype must be one of"),
        ({"scale_rule": "divide"}, "scale_rule must be one of floor, ceil, even, rceil, got 'divide'"),
        ({"w_dtype": "nvfp4", "blocksize": 8}, "blocks of nvfp4 have 16 elements, got blocksize 8"),
        ({"preset": "amd"}, "preset must be one of ocp, .*, got 'amd'"),
        ({"preset": "aiter"}, "preset 'aiter' speaks of mxfp4, got mxint8 as w_dtype"),
        ({"preset": "ocp", "blocksize": 16}, "preset 'ocp' speaks of mxfp8_e4m3, .*, got mxint8_block16 as w_dtype"),
        ({"preset": "ocp", "scale_rule": "even"}, "a preset decides on rounding and scales; leave .* out"),
        ({"preset": "ocp", "round_method": "even"}, "a preset decides on rounding and scales; leave .* out"),
    ],
)
def test_other_values_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MXQuantConfig(**fields)


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if isinstance(fmt, BlockFormat)])
def test_formats_by_name(name: str) -> None:
    scheme = MXQuantConfig(w_dtype=name, act_dtype="nvfp4").scheme()
    assert scheme.weight.fmt is FORMATS[name]
    assert scheme.activation is not None
    assert scheme.activation.rule is ScaleRule.DIVIDE


def test_scale_rule() -> None:
    scheme = MXQuantConfig(w_dtype="fp4", act_dtype="fp8_e4m3", scale_rule="even").scheme()
    assert scheme.activation is not None
    assert (scheme.weight.rule, scheme.activation.rule) == (ScaleRule.EVEN, ScaleRule.EVEN)


@pytest.mark.parametrize("name", MX_PRESETS)
def test_a_preset_says_everything_but_the_dtypes(name: str) -> None:
    preset = MX_PRESETS[name]
    scheme = MXQuantConfig(w_dtype=preset.formats[-1], act_dtype=preset.formats[0], preset=name).scheme()
    assert scheme.activation is not None
    assert scheme.elementwise is not None
    for spec in (scheme.weight, scheme.activation):
        assert {key: getattr(spec, key) for key in preset.options()} == preset.options()
    assert scheme.elementwise.rounding is preset.rounding


def test_transformer_engine_saturates_blocks_with_an_inf() -> None:
    spec = MXQuantConfig(w_dtype="fp8_e4m3", act_dtype="fp8_e5m2", preset="transformer_engine").scheme().weight
    assert (spec.rule, spec.inf_block, spec.nan_block) == (ScaleRule.RCEIL, BlockRule.SATURATE, BlockRule.NAN_BLOCK)


def test_blocks_of_a_convolution_lie_along_channels() -> None:
    config = MXQuantConfig(w_dtype="fp4", act_dtype="fp6_e2m3")
    schemes = config.resolve(nn.Sequential(nn.Conv2d(70, 8, 3), nn.Flatten(), nn.Linear(8, 4)))
    conv, linear = schemes["0"], schemes["2"]
    assert conv.activation is not None
    assert linear.activation is not None
    assert (conv.weight.axis, conv.activation.axis, linear.weight.axis, linear.activation.axis) == (-3, -3, -1, -1)
    assert conv.weight.scale_shape((8, 70, 3, 3)) == (8, 3, 3, 3)


def test_inputs_of_modules_without_weights() -> None:
    config = MXQuantConfig(act_dtype="fp4")
    scheme = config.inputs_for("qk", Matmul())
    assert scheme is not None
    assert (scheme.activation, scheme.elementwise) == (config.scheme().activation, config.scheme().elementwise)
    assert MXQuantConfig(weight_only=True).inputs_for("qk", Matmul()) is None
