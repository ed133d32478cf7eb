import inspect

import pytest
import torch

from incref.config.gptq import GPTQConfig, get_default_gptq_config
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.errors import UnsupportedError
from incref.formats import FORMATS, SymmetricScale
from incref.numerics.granularity import per_channel, per_group
from incref.qtensor.spec import QuantSpec


def method(config: GPTQConfig) -> GPTQ:
    scheme = config.scheme()
    assert scheme is not None
    assert isinstance(scheme.method, GPTQ)
    return scheme.method


def weight(config: GPTQConfig) -> QuantSpec:
    scheme = config.scheme()
    assert scheme is not None
    return scheme.weight


def test_fields_and_defaults_are_those_of_neural_compressor() -> None:
    # facts: neural-compressor-pt 3.10, in the order of its signature; ours follow after.
    theirs = (
        "dtype='int', bits=4, use_sym=True, group_size=32, use_mse_search=False, use_layer_wise=False, "
        "use_block_wise=False, model_path='', use_double_quant=False, double_quant_dtype='int', double_quant_bits=8, "
        "double_quant_use_sym=False, double_quant_group_size=256, quant_lm_head=False, act_order=False, "
        "hybrid_order=False, fp8_aware=False, percdamp=0.01, block_size=2048, static_groups=False, "
        "true_sequential=False, white_list='*'"
    )
    ours = ", ".join(f"{p.name}={p.default!r}" for p in inspect.signature(GPTQConfig).parameters.values())
    more = "group_scales='block', dead_columns='zero', scale_dtype='float32', refine_sweeps=0, symmetric_scale='span'"
    assert ours == f"{theirs}, {more}"


def test_the_default() -> None:
    assert weight(GPTQConfig()) == QuantSpec(
        fmt=FORMATS["int4"], granularity=per_group(32), symmetric_scale=SymmetricScale.SPAN
    )
    assert method(GPTQConfig()) == GPTQ(block_size=2048, group_scales=GroupScales.BLOCK)


@pytest.mark.parametrize("kind", SymmetricScale)
def test_a_symmetric_grid_is_named(kind: SymmetricScale) -> None:
    assert weight(GPTQConfig(symmetric_scale=kind.value)).symmetric_scale is kind


def test_a_grid_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="symmetric_scale is for symmetric integers, got 'qmax' for uint4"):
        GPTQConfig(use_sym=False, symmetric_scale="qmax")


@pytest.mark.parametrize(
    ("config", "fmt"),
    [
        (GPTQConfig(bits=3), "int3"),
        (GPTQConfig(use_sym=False), "uint4"),
        (GPTQConfig(dtype="int8", use_sym=False), "uint8"),
        (GPTQConfig(dtype="fp4"), "float4_e2m1fn"),
        (GPTQConfig(dtype="fp8_e4m3fn"), "float8_e4m3fn"),
        (GPTQConfig(dtype="nf4"), "nf4"),
        (GPTQConfig(dtype="mxfp4"), "mxfp4"),
        (GPTQConfig(dtype="nvfp4"), "nvfp4"),
    ],
)
def test_formats(config: GPTQConfig, fmt: str) -> None:
    assert weight(config).fmt is FORMATS[fmt]


def test_groups() -> None:
    assert weight(GPTQConfig(group_size=-1)).granularity == per_channel()
    assert weight(GPTQConfig(group_size=100)).granularity == per_group(100)
    with pytest.raises(ValueError, match="group_size must be positive, or -1"):
        GPTQConfig(group_size=0)


def test_methods() -> None:
    assert method(GPTQConfig(act_order=True)).order is ColumnOrder.DESCENDING
    assert method(GPTQConfig(hybrid_order=True)).order is ColumnOrder.WITHIN_GROUPS
    assert method(GPTQConfig(static_groups=True)).group_scales is GroupScales.ORIGINAL
    assert method(GPTQConfig(group_scales="current")).group_scales is GroupScales.CURRENT
    assert method(GPTQConfig(dead_columns="keep")).dead_columns is DeadColumns.KEEP
    assert method(GPTQConfig(true_sequential=True)).true_sequential
    assert method(GPTQConfig(percdamp=0.1, use_mse_search=True, block_size=64)) == GPTQ(
        percdamp=0.1, use_mse_search=True, block_size=64, group_scales=GroupScales.BLOCK
    )


def test_float_layers() -> None:
    assert GPTQConfig(dtype="fp32").scheme() is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"act_order": True, "hybrid_order": True}, "set one of them"),
        ({"bits": 9}, "bits must be 1 to 8, got 9"),
        ({"percdamp": -1.0}, "percdamp must be finite and not negative"),
        ({"block_size": 0}, "block_size must be positive"),
        ({"group_scales": "original"}, '"block" or "current"'),
        ({"dead_columns": "drop"}, '"zero" or "keep"'),
        ({"dtype": "mxfp4", "use_mse_search": True}, "those of mxfp4 are not"),
        ({"dtype": "fp32", "percdamp": -1.0}, "percdamp must be finite and not negative"),
        ({"dtype": "nf4", "use_sym": False}, "only integers have zero points"),
    ],
)
def test_contradictions(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPTQConfig(**fields)  # type: ignore[arg-type]  # that is the point


def test_what_is_not_there() -> None:
    with pytest.raises(UnsupportedError, match="fp8_aware"):
        GPTQConfig(fp8_aware=True)


@pytest.mark.parametrize("fields", [{"percdamp": "0.1"}, {"percdamp": True}, {"act_order": 1}])
def test_types(fields: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(fields))):
        GPTQConfig(**fields)  # type: ignore[arg-type]  # likewise


def test_an_integer_is_a_float() -> None:
    assert GPTQConfig(percdamp=1) == GPTQConfig(percdamp=1.0)
    assert type(GPTQConfig(percdamp=1).percdamp) is float


def test_default_by_processor() -> None:
    assert get_default_gptq_config() == GPTQConfig()
    assert get_default_gptq_config("client").use_layer_wise
    with pytest.raises(ValueError, match="processor_type"):
        get_default_gptq_config("phone")


def test_scales_for_files_that_hold_them_in_16_bits() -> None:
    assert weight(GPTQConfig(scale_dtype="bfloat16")).scale_dtype is torch.bfloat16
    with pytest.raises(ValueError, match="scales of mxfp4 are codes here; leave scale_dtype out"):
        GPTQConfig(dtype="mxfp4", scale_dtype="float16")
