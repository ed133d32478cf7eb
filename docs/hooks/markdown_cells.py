"""Markdown tables from rows."""

from collections.abc import Iterable, Sequence

__all__ = ["code", "dyadic", "table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay `rows` out under `header`, one line each."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Set `text` as code."""
    return f"`{text}`"


def dyadic(value: float) -> str:
    """Write a binary fraction exactly: as a decimal if that is short, else as an integer times a power of two.

    >>> dyadic(448.0), dyadic(2.0**-14), dyadic(1.75 * 2.0**120)
    ('448', '2<sup>-14</sup>', '7 &times; 2<sup>118</sup>')
    """
    plain = f"{value:.10g}"
    if len(plain) <= 6 and "e" not in plain and float(plain) == value:
        return plain
    numerator, denominator = value.as_integer_ratio()
    exponent = (numerator & -numerator).bit_length() - denominator.bit_length()
    significand = int(value / 2.0**exponent)
    power = f"2<sup>{exponent}</sup>"
    return power if significand == 1 else f"{significand} &times; {power}"
