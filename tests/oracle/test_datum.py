import math
from fractions import Fraction

import pytest

from incref.oracle.datum import Datum, Kind, datum_of, infinity, number


def test_zero_keeps_its_sign() -> None:
    assert datum_of(-0.0) == Datum(is_negative=True) != datum_of(0.0)
    assert datum_of(-0.0).value == 0


def test_floats_are_read_exactly() -> None:
    assert datum_of(-0.1).value == Fraction(-3602879701896397, 36028797018963968)
    assert datum_of(5e-324).value == Fraction(1, 2**1074)


def test_specials_are_read_with_their_sign() -> None:
    assert datum_of(-math.inf) == infinity(is_negative=True)
    assert datum_of(math.copysign(math.nan, -1.0)) == Datum(kind=Kind.NAN, is_negative=True)


def test_number_takes_the_sign_of_its_value() -> None:
    assert number(-3) == Datum(is_negative=True, magnitude=Fraction(3))
    assert number(0, is_negative=True) == datum_of(-0.0)


def test_specials_have_no_value() -> None:
    with pytest.raises(ValueError, match="only finite data have a value"):
        _ = infinity().value


@pytest.mark.parametrize("kind", [Kind.INFINITE, Kind.NAN])
def test_specials_have_no_magnitude(kind: Kind) -> None:
    with pytest.raises(ValueError, match="a magnitude is not negative"):
        Datum(kind=kind, magnitude=Fraction(1))


def test_a_magnitude_is_not_negative() -> None:
    with pytest.raises(ValueError, match="a magnitude is not negative"):
        Datum(magnitude=Fraction(-1))
