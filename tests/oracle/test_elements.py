import pytest

from incref.formats import FORMATS, FloatFormat, Rounding
from incref.oracle.datum import datum_of
from incref.oracle.elements import PLAIN, ElementRules, encode_elements
from incref.oracle.encode import RandomBits

E2M1 = FORMATS["float4_e2m1fn"]
assert isinstance(E2M1, FloatFormat)


def test_each_element_has_its_own_random_bits() -> None:
    bits = [RandomBits(value=value, width=1) for value in (0, 1)]
    rules = ElementRules(rounding=Rounding.STOCHASTIC)
    assert encode_elements([datum_of(1.25), datum_of(1.25)], E2M1, rules, bits) == [0x2, 0x3]


def test_there_are_as_many_random_bits_as_elements() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_elements([datum_of(1.0)] * 2, E2M1, ElementRules(rounding=Rounding.STOCHASTIC), [])


def test_the_defaults_are_those_of_encode_but_for_the_symmetric_integers() -> None:
    assert encode_elements([datum_of(1.25), datum_of(-9.0)], E2M1, PLAIN, None) == [0x2, 0xF]
