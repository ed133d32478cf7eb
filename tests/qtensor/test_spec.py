import json

import pytest
import torch

from incref.config.schemes import SCHEMES
from incref.formats import FORMATS, IntRange, Rounding, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, per_channel, per_group
from incref.qtensor.format_json import Json
from incref.qtensor.scale_spec import ScaleSpec
from incref.qtensor.spec import QuantSpec


@pytest.mark.parametrize(
    ("fmt", "int_range", "rule"),
    [
        ("int8", IntRange.FULL, ScaleRule.DIVIDE),
        ("float8_e4m3fn", IntRange.FULL, ScaleRule.DIVIDE),
        ("mxint8", IntRange.RESTRICTED, ScaleRule.FLOOR),
        ("mxfp4", IntRange.RESTRICTED, ScaleRule.FLOOR),
        ("nvfp4", IntRange.RESTRICTED, ScaleRule.DIVIDE),
    ],
)
def test_what_is_left_out_follows_from_the_format(fmt: str, int_range: IntRange, rule: ScaleRule) -> None:
    spec = QuantSpec(fmt=FORMATS[fmt])
    assert (spec.int_range, spec.rule) == (int_range, rule)


def test_what_is_given_is_kept() -> None:
    spec = QuantSpec(fmt=FORMATS["mxint8"], int_range=IntRange.FULL, rule=ScaleRule.RCEIL)
    assert (spec.int_range, spec.rule) == (IntRange.FULL, ScaleRule.RCEIL)


def test_choices_that_a_format_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="mxfp4 has blocks of its own along axis"):
        QuantSpec(fmt=FORMATS["mxfp4"], granularity=per_channel())
    with pytest.raises(ValueError, match=r"float8_e5m2 needs symmetric=True"):
        QuantSpec(fmt=FORMATS["float8_e5m2"], symmetric=False)
    with pytest.raises(ValueError, match=r"uint4 has no negative codes, so it needs symmetric=False"):
        QuantSpec(fmt=FORMATS["uint4"])
    for name in ("float8_e8m0fnu", "float32", "binary8p3uf"):
        with pytest.raises(ValueError, match=f"signed floats of at most 16 bits with a zero, got {name}"):
            QuantSpec(fmt=FORMATS[name])


@pytest.mark.parametrize(
    ("spec", "shape", "scale_shape"),
    [
        (QuantSpec(fmt=FORMATS["int8"]), (4, 70), ()),
        (QuantSpec(fmt=FORMATS["int8"], granularity=per_channel()), (4, 70), (4, 1)),
        (QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32)), (4, 70), (4, 3)),
        (QuantSpec(fmt=FORMATS["mxfp4"]), (4, 70), (4, 3)),
        (QuantSpec(fmt=FORMATS["mxfp4"], axis=0), (4, 70), (1, 70)),
        (QuantSpec(fmt=FORMATS["nvfp4"], axis=-2), (5, 33, 2), (5, 3, 2)),
    ],
)
def test_scale_shape(spec: QuantSpec, shape: tuple[int, ...], scale_shape: tuple[int, ...]) -> None:
    assert spec.scale_shape(shape) == scale_shape


def test_scale_shape_needs_the_axis() -> None:
    with pytest.raises(ValueError, match=r"axis 2, which a tensor of shape \(4, 70\) has not"):
        QuantSpec(fmt=FORMATS["mxfp4"], axis=2).scale_shape((4, 70))


def test_scale_dtypes() -> None:
    assert QuantSpec(fmt=FORMATS["nvfp4"]).scale_dtypes == [torch.uint8]
    assert QuantSpec(fmt=FORMATS["int8"], rule=ScaleRule.CEIL).scale_dtypes == [torch.uint8]
    assert QuantSpec(fmt=FORMATS["int8"]).scale_dtypes == [torch.float32, torch.float64]


def test_element_is_the_format_of_a_code() -> None:
    assert QuantSpec(fmt=FORMATS["nvfp4"]).element is FORMATS["float4_e2m1fn"]
    assert QuantSpec(fmt=FORMATS["nf4"]).element is FORMATS["nf4"]


SPECS = {f"{name}-{part}": spec for name, s in SCHEMES.items() for part, spec in (("w", s.weight), ("a", s.activation))}


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s is not None], ids=[n for n, s in SPECS.items() if s])
def test_survives_json(spec: QuantSpec) -> None:
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_survives_json_with_every_field_changed() -> None:
    spec = QuantSpec(
        fmt=FORMATS["int4"],
        granularity=per_group(7, -2),
        axis=1,
        symmetric_scale=SymmetricScale.EXTREME,
        rule=ScaleRule.RECIPROCAL,
        rounding=Rounding.STOCHASTIC,
    )
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


GOOD = QuantSpec(fmt=FORMATS["int8"], granularity=PER_TENSOR).to_json()


@pytest.mark.parametrize(
    "described",
    [
        None,
        "int8",
        {},
        {key: value for key, value in GOOD.items() if key != "rule"},
        {**GOOD, "colour": 1},
        {**GOOD, "rule": "sideways"},
        {**GOOD, "axis": "-1"},
        {**GOOD, "axis": True},
        {**GOOD, "symmetric": 1},
        {**GOOD, "symmetric": False, "fmt": "mxfp4"},
        {**GOOD, "granularity": []},
        {**GOOD, "granularity": {"block": [0], "lead": 1}},
        {**GOOD, "granularity": {"block": ["1"], "lead": 1}},
        {**GOOD, "granularity": {"block": [1]}},
        {**GOOD, "fmt": None},
    ],
    ids=lambda described: repr(described)[-60:],
)
def test_what_is_no_spec_is_refused(described: Json) -> None:
    with pytest.raises(ValueError, match=r"QuantSpec|format|granularity|zero points|extents|sideways"):
        QuantSpec.from_json(described)


def test_scales_are_rounded_to_floats_that_files_hold() -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), scale_dtype=torch.float16)
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert str(spec) == "int4, groups of 32, scales float16"
    with pytest.raises(ValueError, match=r"scales are rounded to float16 or bfloat16 or float32, got torch.int8"):
        QuantSpec(fmt=FORMATS["int4"], scale_dtype=torch.int8)
    for codes in (
        {"fmt": FORMATS["mxfp4"]},
        {"fmt": FORMATS["int4"], "rule": ScaleRule.CEIL},
        {"fmt": FORMATS["int4"], "granularity": per_group(32), "scales": ScaleSpec(fmt=FORMATS["int8"])},
    ):
        with pytest.raises(ValueError, match="are codes here; leave scale_dtype out"):
            QuantSpec(**codes, scale_dtype=torch.float16)


def test_only_formats_with_a_scale_of_the_tensor_divide_by_it() -> None:
    spec = QuantSpec(fmt=FORMATS["nvfp4"], tensor_scale_divides=True)
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(ValueError, match="mxfp4 has no scale of the tensor; leave tensor_scale_divides out"):
        QuantSpec(fmt=FORMATS["mxfp4"], tensor_scale_divides=True)
