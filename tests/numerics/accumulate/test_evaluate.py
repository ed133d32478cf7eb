"""Matrix products by every accumulator, against the oracle's sums."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conformance.accumulators.replay import DISTRIBUTIONS, draw
from incref.conformance.judge import assert_same_bits, data_of, values_of
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.numerics.accumulate.evaluate import accumulate, accumulate_codes, accumulate_rows
from incref.numerics.accumulate.models import (
    Accumulator,
    Aligned,
    AlignTo,
    Carry,
    Pairwise,
    Promoted,
    Reordered,
    Sequential,
    SplitK,
)
from incref.ops import decode
from incref.oracle.accumulate import FixedPoint, add_fixed_point, add_in_order
from incref.oracle.datum import Datum, number
from incref.oracle.dot import exact_sum
from incref.oracle.encode import round_to


def float_format(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


E4M3, E5M2, FP16, BF16, TF32, FP32 = map(
    float_format, ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "tf32", "float32")
)
NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)
WIDE = Aligned(group=8, fraction_bits=25, result_bits=23)
VARIANTS = [
    NARROW,
    WIDE,
    replace(WIDE, carry=Carry.ADDED),
    replace(NARROW, align_to=AlignTo.PRODUCTS, group=5),
    replace(NARROW, term_rounding=Rounding.TOWARD_NEGATIVE, result_rounding=Rounding.NEAREST_EVEN),
    replace(NARROW, term_rounding=Rounding.NEAREST_EVEN, result_bits=23, flushes=True),
    replace(WIDE, carry=Carry.REALIGNED, carry_bits=31, fraction_bits=24, result_rounding=Rounding.NEAREST_EVEN),
    replace(WIDE, carry=Carry.UNROUNDED, result_rounding=Rounding.NEAREST_EVEN, flushes=True),
    replace(WIDE, least_exponent=-150, result_rounding=Rounding.TOWARD_NEGATIVE),
]


def fixed_point(model: Aligned) -> FixedPoint:
    return FixedPoint(
        fraction_bits=model.fraction_bits,
        result_bits=model.result_bits,
        term_rounding=model.term_rounding,
        result_rounding=model.result_rounding,
        by_product=model.align_to is AlignTo.PRODUCTS,
        adds_carried=model.carry is Carry.ADDED,
        joins_carried=model.carry is Carry.UNROUNDED,
        carry_bits=model.carry_bits,
        flushes=model.flushes,
        least_exponent=model.least_exponent,
    )


def judged(
    a: list[Datum], b: list[Datum], formats: tuple[FloatFormat, FloatFormat], model: Accumulator, carried: Datum
) -> Datum:
    """What the definition of each model gives for one dot product."""
    match model:
        case Aligned():
            for start in range(0, len(a), model.group):
                part = slice(start, start + model.group)
                carried = add_fixed_point(a[part], b[part], formats, carried, fixed_point(model))
            return carried
        case Promoted():
            for start in range(0, len(a), model.every):
                part = slice(start, start + model.every)
                stretch = judged(a[part], b[part], formats, model.inner, number(0))
                carried = round_to(exact_sum([carried, stretch]), FP32)
            return carried
        case Sequential():
            return add_in_order(a, b, carried, is_fused=model.is_fused)
    raise NotImplementedError


def judged_all(
    a: Tensor, b: Tensor, formats: tuple[FloatFormat, FloatFormat], model: Accumulator, carried: Tensor | None = None
) -> Tensor:
    start = torch.zeros(a.shape[0], b.shape[0]) if carried is None else carried
    rows, columns = [data_of(x) for x in a], [data_of(x) for x in b]
    starts = data_of(start)
    found = [
        judged(row, column, formats, model, starts[i * len(columns) + j])
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]
    return values_of(found, torch.float32).view(a.shape[0], b.shape[0])


@pytest.mark.parametrize("fmt", [E4M3, E5M2, FP16, BF16, TF32], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("model", VARIANTS, ids=range(len(VARIANTS)))
def test_aligned_sums(model: Aligned, fmt: FloatFormat) -> None:
    for kind in DISTRIBUTIONS:
        a, b = draw(kind, 2, 70, fmt, 1), draw(kind, 3, 70, fmt, 2)
        carried = 100 * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        for start in (None, carried):
            got = accumulate(a, b, fmt, fmt, model, carried=start)
            assert_same_bits(got, judged_all(a, b, (fmt, fmt), model, start), note=kind)


@pytest.mark.parametrize("model", [Promoted(inner=NARROW, every=64), Sequential(), Sequential(is_fused=True)], ids=str)
def test_sums_in_float32(model: Accumulator) -> None:
    for fmt in (E4M3, FP32):
        a, b = draw("normal", 5, 150, fmt, 1), draw("normal", 6, 150, fmt, 2)
        assert_same_bits(accumulate(a, b, fmt, fmt, model), judged_all(a, b, (fmt, fmt), model))


def test_fused_products_are_not_rounded() -> None:
    a, b = torch.tensor([[1.0, 1 + 2.0**-12]]), torch.tensor([[-1.0, 1 + 2.0**-12]])
    assert accumulate(a, b, FP32, FP32, Sequential()).item() == 2.0**-11
    assert accumulate(a, b, FP32, FP32, Sequential(is_fused=True)).item() == 2.0**-11 + 2.0**-24


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 12])
def test_pairs_are_added_level_by_level(length: int) -> None:
    a, b = draw("normal", 3, length, FP32, 1), draw("normal", 2, length, FP32, 2)
    want = torch.zeros(3, 2)
    for i in range(3):
        for j in range(2):
            terms = [x * y for x, y in zip(a[i], b[j], strict=True)]
            while len(terms) > 1:
                pairs = [terms[k] + terms[k + 1] for k in range(0, len(terms) - 1, 2)]
                terms = pairs + terms[2 * len(pairs) :]
            want[i, j] = terms[0] if terms else 0.0
    assert_same_bits(accumulate(a, b, FP32, FP32, Pairwise()), want)


def test_a_split_adds_consecutive_runs_of_tiles() -> None:
    a, b = draw("normal", 4, 5 * 64 + 10, E4M3, 1), draw("normal", 4, 5 * 64 + 10, E4M3, 2)
    got = accumulate(a, b, E4M3, E4M3, SplitK(inner=NARROW, parts=4, tile=64))
    # Six tiles: two runs of two, then two of one, the last of them ragged.
    want = torch.zeros(4, 4)
    for part in (slice(0, 128), slice(128, 256), slice(256, 320), slice(320, 330)):
        want = want + accumulate(a[:, part], b[:, part], E4M3, E4M3, NARROW)
    assert_same_bits(got, want)


def test_more_parts_than_tiles() -> None:
    a, b = draw("normal", 2, 40, E4M3, 1), draw("normal", 2, 40, E4M3, 2)
    one = accumulate(a, b, E4M3, E4M3, SplitK(inner=Sequential(), parts=7, tile=40))
    assert_same_bits(one, accumulate(a, b, E4M3, E4M3, Sequential()))


def test_products_are_taken_in_another_order() -> None:
    order = tuple(k for first in (0, 1) for k in range(first, 64, 2))
    a, b = draw("outliers", 4, 150, E4M3, 1), draw("normal", 4, 150, E4M3, 2)
    got = accumulate(a, b, E4M3, E4M3, Reordered(inner=NARROW, order=order))
    # Three periods, the last of them filled up with zeros.
    places = [64 * period + k for period in range(3) for k in order]
    filled, other = (torch.nn.functional.pad(x, (0, 192 - 150))[:, places] for x in (a, b))
    assert_same_bits(got, accumulate(filled, other, E4M3, E4M3, NARROW))
    assert not torch.equal(got, accumulate(a, b, E4M3, E4M3, NARROW))


def test_golden_sums_of_a_hopper_like_group() -> None:
    def dot(*products: float, model: Aligned = NARROW) -> float:
        a = torch.tensor([products])
        return accumulate(a, torch.ones_like(a), BF16, BF16, model).item()

    assert dot(1.0, 2.0**-13, -1.0) == 2.0**-13
    assert dot(1.0, 2.0**-14, -1.0) == 0.0
    # Two that are lost one by one are kept by an earlier group, whose sum is a term like any other.
    assert dot(2.0**-14, 2.0**-14, 1.0, -1.0) == 0.0
    assert dot(2.0**-14, 2.0**-14, *[0.0] * 30, 1.0, -1.0) == 2.0**-13
    assert dot(1.0, -(2.0**-14)) == 1.0
    # A carry leaves one bit less.
    assert dot(1.0, 1.0, 2.0**-13) == 2.0


def test_specials_are_those_of_ieee_arithmetic() -> None:
    inf, nan = torch.inf, torch.nan
    a = torch.tensor([[inf, 1.0], [inf, inf], [nan, 0.0], [inf, 1.0], [-0.0, 0.0], [1.0, -1.0]])
    b = torch.tensor([[1.0, 1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    for model in (NARROW, replace(WIDE, carry=Carry.ADDED), Promoted(inner=NARROW, every=32)):
        got = accumulate_rows(a, b, E5M2, E5M2, model)
        assert_same_bits(got, torch.tensor([inf, nan, nan, nan, 0.0, 0.0]))
    start = torch.tensor([nan, -inf, inf, 0.0, -0.0, torch.finfo(torch.float32).max])
    got = accumulate_rows(torch.ones(6, 1), torch.ones(6, 1), E5M2, E5M2, NARROW, carried=start)
    assert_same_bits(got, torch.tensor([nan, -inf, inf, 1.0, 1.0, 2.0**127 * (2 - 2.0**-13)]))


def test_overflow_is_inf_and_stays() -> None:
    a = torch.full((1, 64), 2.0**100)
    assert accumulate(a, 2 * a, BF16, BF16, NARROW).item() == torch.inf
    a[0, 32:] = -(2.0**20)
    assert accumulate(a, a.abs() * 2, BF16, BF16, NARROW).item() == torch.inf


def test_codes_are_decoded() -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(4, 64)
    codes = torch.where((codes & 0x7F) == 0x7F, 0, codes)
    got = accumulate_codes(codes, codes.flip(0), E4M3, E5M2, NARROW)
    assert_same_bits(got, accumulate(decode(codes, E4M3), decode(codes.flip(0), E5M2), E4M3, E5M2, NARROW))
    with pytest.raises(TypeError, match=r"codes of float8_e4m3fn must be torch\.uint8, got torch\.int8"):
        accumulate_codes(codes.to(torch.int8), codes, E4M3, E4M3, NARROW)


def test_large_products_are_made_in_pieces() -> None:
    a, b = draw("normal", 300, 64, E4M3, 1), draw("normal", 700, 64, E4M3, 2)
    got = accumulate(a, b, E4M3, E4M3, NARROW)
    rows = [accumulate(row.unsqueeze(0), b[:50], E4M3, E4M3, NARROW) for row in a[::37]]
    assert_same_bits(got[::37, :50], torch.cat(rows))
    assert_same_bits(accumulate(a[:0], b, E4M3, E4M3, NARROW), torch.zeros(0, 700))


def test_rows_are_the_diagonal() -> None:
    a, b = draw("codes", 9, 96, E4M3, 1), draw("codes", 9, 96, E4M3, 2)
    for model in (NARROW, Sequential(), Pairwise(), SplitK(inner=Pairwise(), parts=2)):
        assert_same_bits(accumulate_rows(a, b, E4M3, E4M3, model), accumulate(a, b, E4M3, E4M3, model).diagonal())


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"a and b must be \[M, K\] and \[N, K\], got \(2, 3\) and \(3, 2\)"):
        accumulate(x, x.T, FP32, FP32, Sequential())
    with pytest.raises(ValueError, match=r"carried must be torch\.float32 \(2, 2\), got torch\.float64 \(2, 2\)"):
        accumulate(x, x, FP32, FP32, Sequential(), carried=torch.zeros(2, 2, dtype=torch.float64))
