"""Columns of GPTQ on numbers small enough to follow by hand."""

from fractions import Fraction

import pytest

from incref.errors import NanError
from incref.formats import FORMATS, FloatFormat, IntFormat, IntRange
from incref.oracle.datum import NAN, datum_of, number
from incref.oracle.gptq import update_row

FLOAT32, INT4 = FORMATS["float32"], FORMATS["int4"]
assert isinstance(FLOAT32, FloatFormat)
assert isinstance(INT4, IntFormat)
ONE = number(1)
UPPER = [[number(2), number(1), number(-4)], [number(9), number(1), number(1)], [number(9), number(9), number(1)]]


def test_the_error_of_a_weight_goes_to_all_that_follow() -> None:
    ws = [number(Fraction(5, 2)), number(1), number(0)]
    codes, errors, updated = update_row(ws, UPPER, [ONE] * 3, [0] * 3, INT4, working=FLOAT32)
    # 5/2 is a tie and goes to 2; half of what is lost is 1/4, which the others have 1 and -4 times.
    assert [w.value for w in updated] == [Fraction(5, 2), Fraction(3, 4), Fraction(5, 4)]
    assert codes == [2, 1, 1]
    assert [error.value for error in errors] == [Fraction(1, 4), Fraction(-1, 4), Fraction(1, 4)]


def test_zero_points_and_ranges() -> None:
    codes, errors, _ = update_row(
        [number(-20)], [[ONE]], [number(2)], [3], INT4, working=FLOAT32, int_range=IntRange.RESTRICTED
    )
    assert codes == [-7]
    assert errors[0].value == 0
    codes, errors, _ = update_row(
        [number(-24)], [[ONE]], [number(2)], [3], INT4, working=FLOAT32, int_range=IntRange.FULL
    )
    assert codes == [-8]
    assert errors[0].value == -2


def test_every_step_is_rounded_to_the_working_format() -> None:
    # A third of it is 14913081 + 1/3 units of its last place.
    third = datum_of(float.fromhex("0x1.555556p-2"))
    _, errors, _ = update_row([third], [[number(3)]], [ONE], [0], INT4, working=FLOAT32)
    assert float(errors[0].value).hex() == "0x1.c71c720000000p-4"


def test_no_weight_may_be_nan() -> None:
    with pytest.raises(NanError, match="int4 has no NaN"):
        update_row([NAN], [[ONE]], [ONE], [0], INT4, working=FLOAT32)
