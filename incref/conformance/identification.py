"""What is found out about a black box."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Difference", "Identification"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An input that tells the chosen value of an option from another.

    Attributes:
        option: its name.
        other: the value that is ruled out.
        place: where in the probed tensor.
        given: the input there.
        got: what the black box gave.
        would_be: what the other value would give.
    """

    option: str
    other: str
    place: tuple[int, ...]
    given: str
    got: str
    would_be: str


@dataclass(frozen=True, kw_only=True)
class Identification:
    """What a black box implements.

    Attributes:
        op: name of the operation.
        fmt: name of the format.
        options: the best combination, by name of the option.
        undecided: for some options, other values that explain everything as well.
        mismatches: how many of the results this does not explain; 0 if it is what the black box does.
        total: how many results were compared.
        preset: names of vendors' presets with the same choices.
        differences: first inputs that rule other values out.
        first_unexplained: the first input of which the result is not explained, in words; "" if all are.
    """

    op: str
    fmt: str
    options: Mapping[str, str]
    undecided: Mapping[str, tuple[str, ...]]
    mismatches: int
    total: int
    preset: tuple[str, ...]
    differences: tuple[Difference, ...]
    first_unexplained: str = ""
