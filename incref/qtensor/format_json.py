"""Formats as JSON values: the name of a row of the table, or the facts of a format that has no row."""

from dataclasses import fields
from enum import Enum

from incref.formats import FORMATS, BlockFormat, CodebookFormat, FloatFormat, Format, IntFormat, Specials

__all__ = ["Json", "format_from_json", "format_to_json"]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""What `json.loads` gives."""

_KINDS: dict[str, type[FloatFormat] | type[IntFormat] | type[CodebookFormat] | type[BlockFormat]] = {
    "float": FloatFormat,
    "int": IntFormat,
    "codebook": CodebookFormat,
    "block": BlockFormat,
}


def format_to_json(fmt: Format) -> Json:
    """Describe `fmt` so that `format_from_json` gives an equal one.

    >>> format_to_json(FORMATS["mxfp4"])
    'mxfp4'
    """
    if FORMATS.get(fmt.name) == fmt:
        return fmt.name
    described: dict[str, Json] = {"kind": next(kind for kind, cls in _KINDS.items() if isinstance(fmt, cls))}
    for field in fields(fmt):
        value = getattr(fmt, field.name)
        if isinstance(value, FloatFormat | IntFormat):
            value = format_to_json(value)
        elif isinstance(value, Enum):
            value = value.value
        elif isinstance(value, tuple):
            value = list(value)
        described[field.name] = value
    return described


def format_from_json(value: Json) -> Format:
    """Undo `format_to_json`.

    Raises:
        ValueError: if `value` describes no format.
    """
    if isinstance(value, str):
        if value not in FORMATS:
            raise ValueError(
                f"a format is the full name of a row of incref.formats.FORMATS or its facts, got {value!r}"
            )
        return FORMATS[value]
    if not isinstance(value, dict) or value.get("kind") not in _KINDS:
        raise ValueError(f"the facts of a format name its kind, one of {', '.join(_KINDS)}; got {value!r}")
    facts: dict[str, object] = {name: _fact(name, fact) for name, fact in value.items() if name != "kind"}
    try:
        return _KINDS[str(value["kind"])](**facts)  # type: ignore[arg-type]  # a wrong fact raises below
    except (TypeError, AttributeError) as error:
        raise ValueError(f"these are not the facts of a format: {value!r} ({error})") from error


def _fact(name: str, value: Json) -> object:
    if name in ("element", "scale"):
        return format_from_json(value)
    if name == "specials":
        return Specials(value)
    return tuple(value) if isinstance(value, list) else value
