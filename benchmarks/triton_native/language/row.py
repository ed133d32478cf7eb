"""A cell of the table."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Launch", "Row"]

Launch = Callable[..., None]
"""Runs a kernel: `launch(kernel, programs, *arguments, **constants)`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An operation on a type.

    Attributes:
        group: which part of the language it belongs to.
        operation: what is done.
        dtype: the type of what it is done to.
        wrong: launches a kernel; how many of its results differ from what they should be.
    """

    group: str
    operation: str
    dtype: str
    wrong: Callable[[Launch], int]
