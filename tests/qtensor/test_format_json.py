import json
from dataclasses import replace

import pytest

from incref.formats import FORMATS, BlockFormat, Format
from incref.qtensor.format_json import Json, format_from_json, format_to_json

MXFP4 = FORMATS["mxfp4"]
assert isinstance(MXFP4, BlockFormat)
CUSTOM = [
    replace(MXFP4, name="mxfp4_block64", block_size=64),
    replace(FORMATS["int4"], name="fixed4", fraction_bits=2),
    replace(FORMATS["float8_e4m3fn"], name="biased", bias=9),
    replace(FORMATS["nf4"], name="two_values", values=(-1.0, 1.0)),
    replace(MXFP4, name="mxfixed4", element=replace(FORMATS["int4"], name="fixed4", fraction_bits=2)),
]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_a_row_of_the_table_is_its_name(fmt: Format) -> None:
    assert format_to_json(fmt) == fmt.name
    assert format_from_json(fmt.name) is fmt


@pytest.mark.parametrize("fmt", CUSTOM, ids=lambda fmt: fmt.name)
def test_another_format_is_its_facts(fmt: Format) -> None:
    described = json.loads(json.dumps(format_to_json(fmt)))
    assert isinstance(described, dict)
    assert format_from_json(described) == fmt


def test_a_name_that_was_given_other_facts_is_not_the_row() -> None:
    imposter = replace(MXFP4, block_size=64)
    assert isinstance(format_to_json(imposter), dict)
    assert format_from_json(format_to_json(imposter)) == imposter


@pytest.mark.parametrize(
    "described",
    [
        "e2m1",
        "no such format",
        None,
        3,
        ["mxfp4"],
        {},
        {"kind": "decimal"},
        {"kind": "int", "name": "x"},
        {"kind": "int", "name": "x", "bits": 99, "is_signed": True, "source": ""},
        {"kind": "int", "name": "x", "bits": "4", "is_signed": True, "source": ""},
        {"kind": "int", "name": "x", "bits": 4, "is_signed": True, "source": "", "colour": 1},
        {"kind": "float", "name": "x", "exponent_bits": 4, "specials": "nothing"},
    ],
    ids=repr,
)
def test_what_describes_no_format_is_refused(described: Json) -> None:
    with pytest.raises(ValueError, match=r"a format is|the facts of a format|bits must be|Specials"):
        format_from_json(described)
