"""What a program in another language may declare of its accumulator."""

import pytest

from incref.backends.declared import AnyGroups, AnyOf, AnyOrder
from incref.conformance.declaration import read_accumulator
from incref.conformance.report import Json
from incref.formats import Rounding
from incref.numerics.accumulate.models import Aligned, Carry, Pairwise, Reordered, Sequential, SplitK

NARROW = Aligned(group=2, fraction_bits=13, result_bits=13, carry=Carry.ADDED, term_rounding=Rounding.NEAREST_EVEN)
NARROW_TEXT: Json = {
    "aligned": {
        "group": 2,
        "fraction_bits": 13,
        "result_bits": 13,
        "carry": "added",
        "term_rounding": "nearest_even",
    }
}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (
            {"any_order": {"fraction_bits": 7, "rounding": "toward_zero"}},
            AnyOrder(fraction_bits=7, rounding=Rounding.TOWARD_ZERO),
        ),
        (
            {"any_groups": {"group": 8, "fraction_bits": 24, "result_bits": 23}},
            AnyGroups(group=8, fraction_bits=24, result_bits=23),
        ),
        ({"pairwise": {}}, Pairwise()),
        (NARROW_TEXT, NARROW),
        ({"reordered": {"inner": NARROW_TEXT, "order": [2, 0, 3, 1]}}, Reordered(inner=NARROW, order=(2, 0, 3, 1))),
        (
            {"split_k": {"inner": {"sequential": {"is_fused": True}}, "parts": 4}},
            SplitK(inner=Sequential(is_fused=True), parts=4),
        ),
        ([{"pairwise": {}}, NARROW_TEXT], AnyOf(models=(Pairwise(), NARROW))),
    ],
    ids=str,
)
def test_every_kind_is_read(text: Json, want: object) -> None:
    assert read_accumulator(text) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abacus", "no machine is called"),
        (3, "an accumulator is the name"),
        ({}, "an accumulator is the name"),
        ({"exact": {}}, "a kind of accumulator is one of any_order"),
        ({"pairwise": {"parts": 2}}, r"pairwise has no fields, got \['parts'\]"),
        ({"any_groups": {"group": 8}}, "is no accumulator"),
        ({"any_order": {"rounding": "up"}}, "is not a valid Rounding"),
        ([{"pairwise": {}}], "a choice is between at least two"),
        ([{"pairwise": {}}, [{"pairwise": {}}, "ada_mma_fp8"]], "none of them a choice"),
    ],
    ids=str,
)
def test_others_are_refused(text: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_accumulator(text)
