"""`incref inspect`: what a code means, and what a value becomes, bit by bit."""

import json
import re
from fractions import Fraction
from typing import Annotated

import typer
from rich.table import Table

from incref.cli.console import stdout_console
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson
from incref.errors import NanError
from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, IntFormat, Overflow, Rounding, get_format
from incref.oracle.datum import NAN, Datum, datum_of, infinity, number
from incref.oracle.encode import encode
from incref.oracle.values import decode
from incref.qtensor.format_json import Json

__all__ = ["inspect"]

_CODE = re.compile(r"0x([0-9a-f]+)|0b([01]+)", re.IGNORECASE)
_WIDEST = 16
"""Bits of the widest formats that are listed if none is named."""
_ROUNDINGS = tuple(rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC)


def inspect(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A code (0x7e, 0b1110) or a value (0.3, -1/3, 0x1.8p-7, inf, nan).")
    ],
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="A format; may be given several times. All narrow ones if left out."),
    ] = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Explain a code or a value in number formats, exactly.

    A negative value needs `--` before it. A code is shown in its fields, with its neighbours; of a value, what every
    rounding makes of it.
    """
    with reporting_failures():
        formats = [_find(name) for name in format_] if format_ else _narrow()
        code = _CODE.fullmatch(what)
        if code is not None:
            bits = int(code[1], 16) if code[1] else int(code[2], 2)
            fitting = [fmt for fmt in formats if bits < 1 << fmt.bits]
            if not fitting:
                raise typer.BadParameter(
                    f"no such format has a code {what}; the widest has {max(f.bits for f in formats)} bits"
                )
            rows = [_explain_code(bits, fmt) for fmt in fitting]
        else:
            value = _parse(what)
            rows = [_explain_value(value, fmt) for fmt in formats]
    if json_:
        typer.echo(json.dumps(rows, indent=2))
    else:
        stdout_console().print(_table(rows))


def _find(name: str) -> ElementFormat:
    try:
        fmt = get_format(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from error
    if isinstance(fmt, BlockFormat):
        raise typer.BadParameter(f"{fmt.name} has codes of {fmt.element.name} and scales of {fmt.scale.name}; name one")
    return fmt


def _narrow() -> list[ElementFormat]:
    return [
        fmt
        for fmt in FORMATS.values()
        if not isinstance(fmt, BlockFormat) and fmt.bits <= _WIDEST and not fmt.is_experimental
    ]


def _parse(text: str) -> Datum:
    """Read a value exactly."""
    plain = text.strip().lower()
    sign = plain.startswith("-")
    body = plain.lstrip("+-")
    if body in ("nan", "inf", "infinity"):
        return NAN if body == "nan" else infinity(is_negative=sign)
    try:
        magnitude = datum_of(float.fromhex(body)).magnitude if body.startswith("0x") else Fraction(body)
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter(
            f"WHAT is a code such as 0x7e, or a value such as 0.3, 1/3, 0x1.8p-7, inf or nan, got {text!r}"
        ) from error
    return number(-magnitude if sign else magnitude, is_negative=sign)


def _explain_code(bits: int, fmt: ElementFormat) -> dict[str, Json]:
    datum = decode(_as_code(bits, fmt), fmt)
    return {"format": fmt.name, "bits": _fields(bits, fmt), "class": _class(datum, fmt), **_value(datum)} | {
        "below": _neighbour(datum, fmt, Rounding.TOWARD_NEGATIVE),
        "above": _neighbour(datum, fmt, Rounding.TOWARD_POSITIVE),
    }


def _explain_value(value: Datum, fmt: ElementFormat) -> dict[str, Json]:
    row: dict[str, Json] = {"format": fmt.name}
    try:
        code = encode(value, fmt)
    except NanError:
        return row | {"bits": "none", "class": "no NaN", "value": "none"}
    bits, datum = code % (1 << fmt.bits), decode(code, fmt)
    row |= {"code": f"0x{bits:0{-(-fmt.bits // 4)}x}", "bits": _fields(bits, fmt), "class": _class(datum, fmt)}
    row |= _value(datum)
    if datum.is_finite and value.is_finite:
        row["error"] = _decimal(datum.value - value.value)
    others = {
        rounding.value: _value(decode(encode(value, fmt, rounding=rounding), fmt))["value"] for rounding in _ROUNDINGS
    }
    row["roundings"] = {name: other for name, other in others.items() if other != row["value"]}
    if value.is_finite or not value.is_nan:
        row["nonsaturate"] = _unsaturated(value, fmt)
    return row


def _unsaturated(value: Datum, fmt: ElementFormat) -> Json:
    """What NONSATURATE makes of it."""
    try:
        return _value(decode(encode(value, fmt, overflow=Overflow.NONSATURATE), fmt))["value"]
    except NanError:
        return "no NaN"


def _as_code(bits: int, fmt: ElementFormat) -> int:
    """The code that a bit pattern is: signed integers are two's complement."""
    is_negative = isinstance(fmt, IntFormat) and fmt.is_signed and bits >> (fmt.bits - 1)
    return bits - (1 << fmt.bits) if is_negative else bits


def _fields(bits: int, fmt: ElementFormat) -> str:
    """The bits with a space between sign, exponent and mantissa."""
    text = f"{bits:0{fmt.bits}b}"
    if not isinstance(fmt, FloatFormat):
        return text
    cuts = (fmt.is_signed + 0, fmt.is_signed + fmt.exponent_bits)
    return " ".join(part for part in (text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :]) if part)


def _class(datum: Datum, fmt: ElementFormat) -> str:
    if datum.is_nan:
        return "NaN"
    if not datum.is_finite:
        return "Inf"
    if not datum.magnitude:
        return "zero"
    is_subnormal = isinstance(fmt, FloatFormat) and fmt.has_zero and datum.magnitude < Fraction(fmt.smallest_normal)
    if is_subnormal:
        return "subnormal"
    return "normal" if isinstance(fmt, FloatFormat) else "number"


def _value(datum: Datum) -> dict[str, Json]:
    if datum.is_nan:
        return {"value": "NaN"}
    sign = "-" if datum.is_negative else ""
    if not datum.is_finite:
        return {"value": f"{sign}Inf"}
    exact = datum.magnitude
    return {"value": f"{sign}{_decimal(exact)}", "exact": f"{sign}{exact}"}


def _decimal(value: Fraction) -> str:
    return f"{float(value):.12g}" if value else "0"


def _neighbour(datum: Datum, fmt: ElementFormat, towards: Rounding) -> Json:
    """The next value of the format below or above; None at the ends, and for what is not finite."""
    if not datum.is_finite:
        return None
    # Less than the distance of any two values.
    little = Fraction(fmt.smallest_positive) / 4
    beyond = datum.value + (little if towards is Rounding.TOWARD_POSITIVE else -little)
    found = decode(encode(number(beyond), fmt, rounding=towards), fmt).value
    return None if found == datum.value else _decimal(found)


def _table(rows: list[dict[str, Json]]) -> Table:
    table = Table()
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "exact"))
    for column in columns:
        table.add_column(column, justify="left" if column in ("format", "class") else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _cell(value: Json) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {other}" for name, other in value.items())
    return "" if value is None else str(value)
