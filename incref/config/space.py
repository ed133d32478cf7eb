"""Search spaces: fields that hold a list of values where a configuration holds one."""

import itertools
from collections.abc import Iterator, Mapping

__all__ = ["Choices", "NamedOrDescribed", "check_value", "combinations", "scalar_kind"]

NamedOrDescribed = str | Mapping[str, object]
"""The type of a field that holds a name, or a dict of what else it may be."""

Choices = Mapping[str, list[object]]
"""The values to choose from, by field, in the order of the fields."""


def scalar_kind(annotation: object) -> type | None:
    """The type of the values of which a field may hold a list, from its annotation; None if it may hold none.

    >>> scalar_kind(int), scalar_kind(NamedOrDescribed), scalar_kind(list)
    (<class 'int'>, <class 'str'>, None)
    """
    if annotation == NamedOrDescribed:
        return str
    return next((kind for kind in (str, int, bool, float) if annotation is kind), None)


def check_value(name: str, kind: type, value: object) -> object:
    """Check the type of the value, or of every value in the list, that a field called `name` is given.

    Returns:
        The value, or a copy of the list; integers as floats where `kind` is float.

    Raises:
        TypeError: for a value of another type.
        ValueError: for an empty list.
    """
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{name} must have a value to choose, got an empty list")
        return [_check_one(name, kind, entry) for entry in value]
    return _check_one(name, kind, value)


def combinations(choices: Choices) -> Iterator[dict[str, object]]:
    """Choose a value for every field in all ways, the last field changing fastest.

    >>> list(combinations({"bits": [4, 8], "use_sym": [True]}))
    [{'bits': 4, 'use_sym': True}, {'bits': 8, 'use_sym': True}]
    """
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _check_one(name: str, kind: type, value: object) -> object:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{name} must be {kind.__name__}, got {value!r}")
    return value
