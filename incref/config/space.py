"""Search spaces: fields that hold a list of values where a configuration holds one."""

import itertools
from collections.abc import Iterator, Mapping

__all__ = ["SCALARS", "Choices", "check_value", "combinations"]

SCALARS = (str, int, bool, float)
"""The types of the fields that may hold a list of values."""

Choices = Mapping[str, list[object]]
"""The values to choose from, by field, in the order of the fields."""


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
