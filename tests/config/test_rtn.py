import inspect
from pathlib import Path

import pytest
import torch

from incref.config.method import RTN
from incref.config.rtn import RTNConfig, get_default_rtn_config
from incref.formats import FORMATS, IntRange, Rounding, ScaleRule, SymmetricScale
from incref.numerics.granularity import per_channel, per_group
from incref.qtensor.spec import QuantSpec


def weight(config: RTNConfig) -> QuantSpec:
    scheme = config.scheme()
    assert scheme is not None
    assert scheme.activation is None
    return scheme.weight


def test_names_order_and_defaults_are_those_that_callers_know() -> None:
    assert {name: p.default for name, p in inspect.signature(RTNConfig).parameters.items()} == {
        "dtype": "int",
        "bits": 4,
        "use_sym": True,
        "group_size": 32,
        "group_dim": 1,
        "use_full_range": False,
        "use_mse_search": False,
        "use_layer_wise": True,
        "model_path": "",
        "use_double_quant": False,
        "double_quant_dtype": "int",
        "double_quant_bits": 8,
        "double_quant_use_sym": False,
        "double_quant_group_size": 256,
        "quant_lm_head": False,
        "white_list": "*",
        "scale_dtype": "float32",
        "symmetric_scale": "qmax",
    }
    assert RTNConfig("int", 8) == RTNConfig(bits=8)


def test_the_default_grid() -> None:
    spec = weight(RTNConfig())
    assert spec == QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32))
    assert (spec.int_range, spec.rule, spec.rounding) == (IntRange.FULL, ScaleRule.DIVIDE, Rounding.NEAREST_EVEN)
    assert spec.symmetric_scale is SymmetricScale.QMAX


@pytest.mark.parametrize(
    ("dtype", "bits", "use_sym", "fmt"),
    [
        ("int", 4, True, "int4"),
        ("int", 8, True, "int8"),
        ("int", 3, False, "uint3"),
        ("int", 1, False, "uint1"),
        ("int8", 4, True, "int8"),
        ("int5", 4, False, "uint5"),
        ("nf4", 4, True, "nf4"),
        ("fp4", 4, True, "float4_e2m1fn"),
        ("fp4_e2m1", 4, True, "float4_e2m1fn"),
        ("fp8_e4m3fn", 4, True, "float8_e4m3fn"),
        ("fp8_e5m2", 4, True, "float8_e5m2"),
        ("fp8_e4m3fnuz", 4, True, "float8_e4m3fnuz"),
        ("fp8_e5m2fnuz", 4, True, "float8_e5m2fnuz"),
        ("mxfp4", 4, True, "mxfp4"),
        ("mxfp6_e2m3", 4, True, "mxfp6_e2m3"),
        ("nvfp4", 4, True, "nvfp4"),
    ],
)
def test_dtype(dtype: str, bits: int, use_sym: bool, fmt: str) -> None:
    spec = weight(RTNConfig(dtype=dtype, bits=bits, use_sym=use_sym))
    assert spec.fmt is FORMATS[fmt]
    assert spec.symmetric is use_sym


@pytest.mark.parametrize("dtype", ["fp32", "float32"])
def test_fp32_is_to_leave_a_layer_alone(dtype: str) -> None:
    assert RTNConfig(dtype=dtype).scheme() is None


@pytest.mark.parametrize(
    ("group_size", "group_dim", "scale_shape"),
    [(32, 1, (64, 4)), (-1, 1, (64, 1)), (32, 0, (2, 128)), (-1, 0, (1, 128)), (100, 1, (64, 2)), (1, 1, (64, 128))],
)
def test_groups(group_size: int, group_dim: int, scale_shape: tuple[int, int]) -> None:
    spec = weight(RTNConfig(group_size=group_size, group_dim=group_dim))
    assert spec.scale_shape((64, 128)) == scale_shape


def test_blocks_run_along_the_group_dimension() -> None:
    assert weight(RTNConfig(dtype="mxfp4")).axis == -1
    assert weight(RTNConfig(dtype="mxfp4", group_dim=0)).axis == -2


def test_full_range_puts_the_extreme_on_the_least_code() -> None:
    assert weight(RTNConfig(use_full_range=True)).symmetric_scale is SymmetricScale.EXTREME


@pytest.mark.parametrize("kind", SymmetricScale)
def test_a_symmetric_grid_is_named(kind: SymmetricScale) -> None:
    assert weight(RTNConfig(symmetric_scale=kind.value)).symmetric_scale is kind
    assert weight(RTNConfig(symmetric_scale="extreme")) == weight(RTNConfig(use_full_range=True))


def test_search_is_the_method() -> None:
    scheme = RTNConfig(use_mse_search=True).scheme()
    assert scheme is not None
    assert scheme.method == RTN(use_mse_search=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 0}, "bits must be 1 to 8, got 0"),
        ({"bits": 9}, "bits must be 1 to 8, got 9"),
        ({"bits": 1}, "bits: integers have 2 to 8 bits if use_sym=True, got 1"),
        ({"dtype": "int16"}, "dtype: integers have 2 to 8 bits if use_sym=True, got 16"),
        ({"dtype": "uint4"}, 'dtype must be "int", "int1" to "int8"'),
        ({"dtype": "bfloat16"}, 'dtype must be "int", "int1" to "int8"'),
        ({"dtype": "e4m3"}, "'e4m3' has 2 readings: float8_e4m3fn, float8_e4m3"),
        ({"dtype": "fp3"}, "dtype: no format is called 'fp3'"),
        ({"dtype": "nf4", "use_sym": False}, "nf4 needs use_sym=True"),
        ({"dtype": "mxfp4", "use_sym": False}, "mxfp4 needs use_sym=True"),
        ({"dtype": "mxfp4", "use_mse_search": True}, "use_mse_search needs scales that are floats"),
        ({"dtype": "nf4", "use_full_range": True}, "use_full_range needs symmetric integers, got nf4"),
        ({"use_sym": False, "use_full_range": True}, "use_full_range needs symmetric integers, got uint4"),
        ({"symmetric_scale": "amax"}, "symmetric_scale must be one of qmax, span, extreme, got 'amax'"),
        (
            {"symmetric_scale": "span", "use_sym": False},
            "symmetric_scale is for symmetric integers, got 'span' for uint4",
        ),
        (
            {"symmetric_scale": "span", "dtype": "mxfp4"},
            "symmetric_scale is for symmetric integers, got 'span' for mxfp4",
        ),
        ({"symmetric_scale": "span", "use_full_range": True}, 'use_full_range is symmetric_scale="extreme"'),
        ({"group_size": 0}, "group_size must be positive, or -1 for a whole row, got 0"),
        ({"group_size": -2}, "got -2"),
        ({"group_dim": 2}, r"group_dim must be 0 \(output features\) or 1 \(input features\), got 2"),
        ({"dtype": "mxfp4", "group_dim": -1}, "group_dim must be 0"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTNConfig(**fields)


def test_a_model_is_read_from_one_directory() -> None:
    config = RTNConfig(model_path="a").set_local("x", RTNConfig(dtype="fp32"))
    assert config.values_path == Path("a")
    assert RTNConfig().values_path is None
    with pytest.raises(ValueError, match="from one directory, got model_path a and b"):
        _ = config.set_local("y", RTNConfig(model_path="b")).values_path


def test_defaults() -> None:
    assert get_default_rtn_config() == RTNConfig()
    assert get_default_rtn_config("client") == RTNConfig()
    assert get_default_rtn_config("server") == RTNConfig(use_layer_wise=False)
    with pytest.raises(ValueError, match='processor_type must be "client", "server" or None, got \'phone\''):
        get_default_rtn_config("phone")


def test_per_channel_is_a_group_of_the_whole_row() -> None:
    assert weight(RTNConfig(group_size=-1)).granularity == per_channel()


def test_scales_for_files_that_hold_them_in_16_bits() -> None:
    assert weight(RTNConfig(scale_dtype="float16")).scale_dtype is torch.float16
    assert weight(RTNConfig()).scale_dtype is None
    with pytest.raises(ValueError, match="scale_dtype must be one of float32, float16, bfloat16, got 'fp8'"):
        RTNConfig(scale_dtype="fp8")
    with pytest.raises(ValueError, match="scales of mxfp4 are codes here; leave scale_dtype out"):
        RTNConfig(dtype="mxfp4", scale_dtype="float16")
