"""Several values encoded one by one, each with its own random bits."""

from collections.abc import Sequence
from dataclasses import dataclass

from incref.formats import ElementFormat, IntRange, NanRule, Overflow, Rounding
from incref.oracle.datum import Datum
from incref.oracle.encode import RandomBits, encode

__all__ = ["PLAIN", "ElementRules", "encode_elements"]


@dataclass(frozen=True, kw_only=True)
class ElementRules:
    """How the elements of a block are encoded, each choice as for `encode`."""

    rounding: Rounding = Rounding.NEAREST_EVEN
    overflow: Overflow = Overflow.SATURATE
    nan: NanRule = NanRule.ERROR
    int_range: IntRange = IntRange.RESTRICTED


PLAIN = ElementRules()
"""The defaults."""


def encode_elements(
    xs: Sequence[Datum], element: ElementFormat, rules: ElementRules, random_bits: Sequence[RandomBits] | None
) -> list[int]:
    """Encode each of `xs` alone."""
    bits: Sequence[RandomBits | None] = [None] * len(xs) if random_bits is None else random_bits
    return [
        encode(
            x,
            element,
            rounding=rules.rounding,
            overflow=rules.overflow,
            nan=rules.nan,
            int_range=rules.int_range,
            random_bits=drawn,
        )
        for x, drawn in zip(xs, bits, strict=True)
    ]
