"""Products and quotients of data, with the arithmetic of Python floats as the witness for the special cases."""

import math
from fractions import Fraction

import numpy as np
import pytest

from incref.oracle.arithmetic import divide, multiply
from incref.oracle.datum import datum_of

CASES = [0.0, -0.0, 1.5, -3.0, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("b", CASES)
@pytest.mark.parametrize("a", CASES)
def test_specials_as_in_ieee_754(a: float, b: float) -> None:
    with np.errstate(all="ignore"):
        product, quotient = float(np.float64(a) * np.float64(b)), float(np.float64(a) / np.float64(b))
    for found, witness in ((multiply(datum_of(a), datum_of(b)), product), (divide(datum_of(a), datum_of(b)), quotient)):
        if math.isnan(witness):
            assert found.is_nan
        else:
            assert found == datum_of(witness)


def test_results_are_not_rounded() -> None:
    assert divide(datum_of(1.0), datum_of(-3.0)).value == Fraction(-1, 3)
    assert multiply(datum_of(5e-324), datum_of(5e-324)).value == Fraction(1, 2**2148)
