"""The judge is judged: what it must not let pass, and what it must."""

import pytest
import torch
from torch import Tensor

from incref.conformance.allowed import Interval
from incref.conformance.comparison import Kind, Mismatch, as_results, compare_bits, compare_bound


def mismatch(got: Tensor, want: Tensor) -> Mismatch:
    found = compare_bits((got,), (want,))
    assert isinstance(found, Mismatch)
    return found


def patterns(*bits: int) -> Tensor:
    return torch.tensor(bits, dtype=torch.int32).view(torch.float32)


def test_the_same_bits_are_the_same() -> None:
    x = torch.tensor([0.0, -0.0, 1.5, torch.inf, -torch.inf])
    assert compare_bits((x,), (x.clone(),)) is None


def test_zeros_of_two_signs_differ() -> None:
    found = mismatch(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert found.kinds == {Kind.ZERO_SIGN: 1}
    assert (found.count, found.places) == (1, ((0,),))


def test_nan_is_nan_whatever_its_sign_and_payload() -> None:
    assert compare_bits((patterns(0x7FC00000),), (patterns(0x7F800001),)) is None
    assert compare_bits((patterns(-0x400000),), (patterns(0x7FC00000),)) is None


@pytest.mark.parametrize("number", [0.0, 1.0, torch.inf])
def test_nan_is_no_number(number: float) -> None:
    nan, one = torch.tensor([torch.nan]), torch.tensor([number])
    assert mismatch(nan, one).kinds == {Kind.NAN: 1}
    assert mismatch(one, nan).kinds == {Kind.NAN: 1}


def test_codes_of_nan_are_compared_as_codes() -> None:
    assert isinstance(compare_bits((torch.tensor([0x7E]),), (torch.tensor([0x7F]),)), Mismatch)


@pytest.mark.parametrize(
    ("got", "want", "kind"),
    [
        (1.0000001192092896, 1.0, Kind.NEIGHBOUR),
        (4.0, 2.0, Kind.FACTOR_TWO),
        (-2.0, 2.0, Kind.SIGN),
        (0.0, 2.0, Kind.ZERO),
        (torch.inf, 2.0, Kind.INFINITY),
        (3.0, 2.0, Kind.OTHER),
    ],
)
def test_kinds(got: float, want: float, kind: Kind) -> None:
    assert mismatch(torch.tensor([got]), torch.tensor([want])).kinds == {kind: 1}


def test_both_sides_of_zero_are_neighbours_by_one_step() -> None:
    found = mismatch(patterns(1), torch.tensor([-0.0]))
    assert found.steps == (1,)


@pytest.mark.parametrize(
    "got",
    [
        (torch.zeros(2),),
        (torch.zeros(3, dtype=torch.float64),),
        (torch.zeros(1, 3),),
        (torch.zeros(3), torch.zeros(3)),
        (),
    ],
    ids=["size", "dtype", "shape", "too many", "none"],
)
def test_another_form_is_wrong_in_words(got: tuple[Tensor, ...]) -> None:
    assert isinstance(compare_bits(got, (torch.zeros(3),)), str)


def test_a_comparison_with_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no right results"):
        compare_bits((), ())


def test_scalars_and_empty_tensors_are_compared() -> None:
    assert compare_bits((torch.zeros(0),), (torch.zeros(0),)) is None
    assert mismatch(torch.tensor(1.0), torch.tensor(2.0)).places == ((),)


@pytest.mark.parametrize("found", [None, 3, [], (torch.zeros(1), None)])
def test_what_is_no_tensor_is_no_result(found: object) -> None:
    with pytest.raises(TypeError, match="returns a tensor or a tuple"):
        as_results(found)


def interval(low: float, high: float) -> Interval:
    return Interval(low=torch.tensor([low]), high=torch.tensor([high]))


def test_a_bound_takes_its_ends_and_nothing_beyond() -> None:
    want = torch.tensor([1.5])
    for value in (1.0, 1.5, 2.0):
        assert compare_bound((torch.tensor([value]),), want, interval(1.0, 2.0)) is None
    for value in (0.9999999, 2.0000002, torch.nan, torch.inf, -torch.inf):
        assert isinstance(compare_bound((torch.tensor([value]),), want, interval(1.0, 2.0)), Mismatch)


def test_a_bound_that_is_nan_can_not_be_made() -> None:
    with pytest.raises(ValueError, match="no NaN"):
        interval(torch.nan, 1.0)
    with pytest.raises(ValueError, match="no NaN"):
        interval(1.0, torch.nan)


def test_a_bound_without_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="allows every value"):
        compare_bound((torch.zeros(1),), torch.zeros(1), interval(-torch.inf, torch.inf))


def test_a_bound_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the interval must be"):
        compare_bound((torch.zeros(2),), torch.zeros(2), interval(0.0, 1.0))
