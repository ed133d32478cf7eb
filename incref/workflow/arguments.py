"""Further arguments of a function that a caller hands in."""

from collections.abc import Sequence

__all__ = ["Arguments", "as_arguments"]

Arguments = Sequence[object] | object
"""A tuple or list of arguments, a single one that is neither, or None for none."""


def as_arguments(given: Arguments) -> tuple[object, ...]:
    """Make positional arguments of what a caller gives.

    >>> as_arguments((1, 2)), as_arguments("data"), as_arguments(None)
    ((1, 2), ('data',), ())
    """
    if isinstance(given, tuple | list):
        return tuple(given)
    return () if given is None else (given,)
