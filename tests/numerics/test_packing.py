"""Judged by a packer on Python integers, which treats a run of codes as one large number."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.packing import pack_words, unpack_words, word_dtype

DEFINED = [(layout, bits) for layout, facts in LAYOUTS.items() for bits in facts.code_bits]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def judge(codes: list[int], bits: int, layout: PackLayout) -> list[int]:
    """Pack by the formulas of `PackLayout`, one code after the other."""
    word_bits = 8 if layout in (PackLayout.BYTES, PackLayout.DENSE) else 32
    number, end = 0, 0
    for i, code in enumerate(codes):
        if layout in (PackLayout.DENSE, PackLayout.DENSE_INT32, PackLayout.GPTQ_V1, PackLayout.GPTQ_V2):
            place = bits * i
        elif layout is PackLayout.AWQ:
            place = 32 * (i // 8) + 4 * AWQ_ORDER.index(i % 8)
        else:
            n = word_bits // bits
            place = word_bits * (i // n) + bits * (i % n)
        kept = (code - 1) % (1 << bits) if layout is PackLayout.GPTQ_V1 else code
        number += kept << place
        end = max(end, place + bits)
    return [(number >> bit) % (1 << word_bits) for bit in range(0, end, word_bits)]


def unsigned(words: torch.Tensor) -> list[int]:
    return [word % (1 << 8 * words.element_size()) for word in words.tolist()]


@pytest.mark.parametrize(("layout", "bits"), DEFINED)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 10, 11, 31, 32, 33, 64, 97])
def test_matches_the_judge(layout: PackLayout, bits: int, length: int) -> None:
    codes = torch.randint(0, 1 << bits, (length,), dtype=torch.uint8, generator=torch.Generator().manual_seed(length))
    words = pack_words(codes, bits, layout=LAYOUTS[layout], axis=0)
    assert unsigned(words) == judge(codes.tolist(), bits, layout)
    assert torch.equal(unpack_words(words, bits, layout=LAYOUTS[layout], axis=0, length=length), codes)


@pytest.mark.parametrize(("layout", "bits"), DEFINED)
def test_every_code_at_every_place_survives(layout: PackLayout, bits: int) -> None:
    facts = LAYOUTS[layout]
    num_codes, _ = facts.unit(bits)
    codes = torch.stack([torch.arange(1 << bits, dtype=torch.uint8).roll(place) for place in range(num_codes)], dim=1)
    words = pack_words(codes, bits, layout=facts, axis=1)
    assert torch.equal(unpack_words(words, bits, layout=facts, axis=1, length=num_codes), codes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_byte_survives(bits: int) -> None:
    words = torch.arange(256, dtype=torch.uint8)[:, None]
    for layout in (PackLayout.BYTES, PackLayout.DENSE):
        codes = unpack_words(words, bits, layout=LAYOUTS[layout], axis=1, length=8 // bits)
        assert torch.equal(pack_words(codes, bits, layout=LAYOUTS[layout], axis=1), words)


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_every_pair_of_neighbouring_bytes_survives(bits: int) -> None:
    facts = LAYOUTS[PackLayout.DENSE]
    num_codes, num_words = facts.unit(bits)
    pair = torch.cartesian_prod(torch.arange(256), torch.arange(256)).to(torch.uint8)
    for w in range(num_words - 1):
        words = torch.full((pair.shape[0], num_words), 0xA5, dtype=torch.uint8)
        words[:, w : w + 2] = pair
        codes = unpack_words(words, bits, layout=facts, axis=1, length=num_codes)
        assert torch.equal(pack_words(codes, bits, layout=facts, axis=1), words)


@pytest.mark.parametrize(("layout", "bits"), [d for d in DEFINED if 32 % d[1] == 0 or LAYOUTS[d[0]].is_dense])
def test_random_words_survive(layout: PackLayout, bits: int) -> None:
    facts = LAYOUTS[layout]
    num_codes, num_words = facts.unit(bits)
    generator = torch.Generator().manual_seed(bits)
    words = torch.randint(-(1 << 31), 1 << 31, (512, num_words), generator=generator).to(word_dtype(facts))
    codes = unpack_words(words, bits, layout=facts, axis=1, length=num_codes)
    assert int(codes.max()) < 1 << bits
    assert torch.equal(pack_words(codes, bits, layout=facts, axis=1), words)


@pytest.mark.parametrize(("layout", "bits"), [(PackLayout.BYTES, 3), (PackLayout.INT32, 3), (PackLayout.INT32, 7)])
def test_bits_that_no_code_owns_are_ignored(layout: PackLayout, bits: int) -> None:
    facts = LAYOUTS[layout]
    num_codes, _ = facts.unit(bits)
    ones = torch.full((1,), -1).to(word_dtype(facts))
    codes = unpack_words(ones, bits, layout=facts, axis=0, length=num_codes)
    assert codes.tolist() == [(1 << bits) - 1] * num_codes
    assert unsigned(pack_words(codes, bits, layout=facts, axis=0)) == [(1 << bits * num_codes) - 1]


@given(
    case=st.sampled_from(DEFINED),
    shape=st.lists(st.integers(0, 13), min_size=1, max_size=4),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_stride_and_axis(case: tuple[PackLayout, int], shape: list[int], data: st.DataObject) -> None:
    layout, bits = case
    axis = data.draw(st.integers(0, len(shape) - 1))
    step = data.draw(st.integers(1, 3))
    order = data.draw(st.permutations(range(len(shape))))
    stored = [shape[d] * step for d in order]
    codes = torch.randint(0, 1 << bits, stored, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    codes = codes.permute([order.index(d) for d in range(len(shape))])[tuple(slice(None, None, step) for _ in shape)]
    before = codes.clone()
    words = pack_words(codes, bits, layout=LAYOUTS[layout], axis=axis)
    assert words.is_contiguous()
    for row, packed in (
        zip(codes.movedim(axis, -1).flatten(0, -2), words.movedim(axis, -1).flatten(0, -2), strict=True)
        if len(shape) > 1 and codes.numel()
        else ()
    ):
        assert unsigned(packed) == judge(row.tolist(), bits, layout)
    again = unpack_words(words, bits, layout=LAYOUTS[layout], axis=axis, length=shape[axis])
    assert torch.equal(again, before)
    assert torch.equal(codes, before)
