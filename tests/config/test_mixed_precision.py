import pytest
from torch import nn

from incref import MixedPrecisionConfig, RTNConfig
from incref.config.method import Cast
from incref.config.mixed_precision import get_default_mixed_precision_config_set
from incref.config.scheme import LayerScheme
from incref.formats import FORMATS
from incref.numerics.granularity import per_channel
from incref.qtensor.spec import QuantSpec


def test_a_layer_is_cast_and_counts_two_bytes_a_weight() -> None:
    plan = MixedPrecisionConfig(dtype="bf16").plan(nn.Sequential(nn.Linear(3, 5), nn.Conv1d(2, 4, 3), nn.LayerNorm(4)))
    assert [(one.name, str(one.scheme), one.stored_bytes) for one in plan.decisions] == [
        ("0", "bfloat16", 2 * 3 * 5),
        ("1", "bfloat16", 2 * 2 * 4 * 3),
    ]


def test_fp32_leaves_layers_alone_and_another_dtype_is_refused() -> None:
    assert MixedPrecisionConfig(dtype="fp32").scheme() is None
    with pytest.raises(ValueError, match="dtype must be one of fp16, bf16, fp32, got 'fp8'"):
        MixedPrecisionConfig(dtype="fp8")


def test_the_space_holds_every_dtype() -> None:
    assert [one.dtype for one in get_default_mixed_precision_config_set().expand()] == ["fp16", "bf16", "fp32"]


def test_it_composes_with_other_configurations() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Conv3d(1, 1, 1))
    config = RTNConfig(group_size=-1) + MixedPrecisionConfig(white_list=["1", "2"])
    assert [str(one.scheme) for one in config.plan(model).decisions] == ["int4, one scale a row", "float16", "float16"]


@pytest.mark.parametrize(
    ("weight", "activation"),
    [
        (QuantSpec(fmt=FORMATS["float16"], granularity=per_channel()), None),
        (QuantSpec(fmt=FORMATS["float16"]), QuantSpec(fmt=FORMATS["float16"])),
        (QuantSpec(fmt=FORMATS["int8"]), None),
    ],
)
def test_a_cast_has_a_format_and_nothing_else(weight: QuantSpec, activation: QuantSpec | None) -> None:
    with pytest.raises(ValueError, match=r"a layer (that is|is) cast"):
        LayerScheme(weight=weight, activation=activation, method=Cast())
