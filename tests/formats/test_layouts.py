import pytest

from incref.formats.layouts import LAYOUTS, PackLayout

DEFINED = [(layout, bits) for layout, facts in LAYOUTS.items() for bits in facts.code_bits]


def test_every_layout_has_its_facts() -> None:
    assert set(LAYOUTS) == set(PackLayout)


@pytest.mark.parametrize(
    ("layout", "bits", "unit"),
    [
        (PackLayout.BYTES, 4, (2, 1)),
        (PackLayout.BYTES, 3, (2, 1)),
        (PackLayout.DENSE, 6, (4, 3)),
        (PackLayout.DENSE, 5, (8, 5)),
        (PackLayout.DENSE, 8, (1, 1)),
        (PackLayout.INT32, 3, (10, 1)),
        (PackLayout.INT32, 5, (6, 1)),
        (PackLayout.INT32, 7, (4, 1)),
        (PackLayout.DENSE_INT32, 3, (32, 3)),
        (PackLayout.DENSE_INT32, 6, (16, 3)),
        (PackLayout.GPTQ_V2, 4, (8, 1)),
        (PackLayout.AWQ, 4, (8, 1)),
    ],
)
def test_unit(layout: PackLayout, bits: int, unit: tuple[int, int]) -> None:
    assert LAYOUTS[layout].unit(bits) == unit


@pytest.mark.parametrize(("layout", "bits"), DEFINED)
def test_no_two_codes_share_a_bit(layout: PackLayout, bits: int) -> None:
    facts = LAYOUTS[layout]
    num_codes, num_words = facts.unit(bits)
    owned = [bit for place in facts.places(bits) for bit in range(place, place + bits)]
    assert len(set(owned)) == len(owned) == num_codes * bits
    assert max(owned) < num_words * facts.word_bits


@pytest.mark.parametrize(("layout", "bits"), DEFINED)
def test_num_words_is_the_least_that_holds_all(layout: PackLayout, bits: int) -> None:
    facts = LAYOUTS[layout]
    num_codes, num_words = facts.unit(bits)
    for length in range(2 * num_codes + 1):
        units, rest = divmod(length, num_codes)
        ends = [place + bits for place in sorted(facts.places(bits))[:rest]]
        if facts.order is not None and rest:
            ends = [facts.word_bits]
        assert facts.num_words(bits, length) == units * num_words + -(-max(ends, default=0) // facts.word_bits)


def test_awq_places_follow_the_interleave() -> None:
    assert LAYOUTS[PackLayout.AWQ].places(4) == (0, 16, 4, 20, 8, 24, 12, 28)
