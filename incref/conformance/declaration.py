"""Reads what a program in another language declares of its accumulator."""

from collections.abc import Callable, Mapping
from enum import Enum
from inspect import signature
from types import MappingProxyType

from incref.backends.declared import AnyGroups, AnyOf, AnyOrder, Declared
from incref.conformance.report import Json
from incref.formats import Rounding
from incref.numerics.accumulate.models import Aligned, AlignTo, Carry, Pairwise, Promoted, Reordered, Sequential, SplitK
from incref.numerics.accumulate.table import find_accumulator

__all__ = ["read_accumulator"]

_KINDS: Mapping[str, Callable[..., Declared]] = MappingProxyType(
    {
        "any_order": AnyOrder,
        "any_groups": AnyGroups,
        "sequential": Sequential,
        "pairwise": Pairwise,
        "aligned": Aligned,
        "reordered": Reordered,
        "promoted": Promoted,
        "split_k": SplitK,
    }
)
_MODES: Mapping[str, type[Enum]] = MappingProxyType(
    {
        "rounding": Rounding,
        "term_rounding": Rounding,
        "result_rounding": Rounding,
        "align_to": AlignTo,
        "carry": Carry,
    }
)


def read_accumulator(found: Json) -> Declared:
    """Read an accumulator from JSON.

    Args:
        found: the name of a machine of `incref.numerics.accumulate.table`; an object with one key, the kind, such as
            `{"any_groups": {"group": 32, "fraction_bits": 13, "result_bits": 13}}`, modes by their lower-case names; or
            a list of these, of which one holds.

    Raises:
        ValueError: if it is none of them.

    >>> read_accumulator({"promoted": {"inner": "ada_mma_fp8", "every": 128}}).inner.group
    16
    """
    if isinstance(found, str):
        return find_accumulator(found)
    if isinstance(found, list):
        models = tuple(map(read_accumulator, found))
        return AnyOf(models=models)  # type: ignore[arg-type]  # a choice within a choice is refused there
    if not isinstance(found, dict) or len(found) != 1:
        raise ValueError(f"an accumulator is the name of a machine, a list, or an object with one key, got {found!r}")
    ((kind, values),) = found.items()
    if kind not in _KINDS or not isinstance(values, dict):
        raise ValueError(f"a kind of accumulator is one of {', '.join(_KINDS)}, with an object, got {found!r}")
    known = set(signature(_KINDS[kind]).parameters)
    if unknown := set(values) - known:
        raise ValueError(f"{kind} has {', '.join(sorted(known)) or 'no fields'}, got {sorted(unknown)}")
    try:
        return _KINDS[kind](**{name: _value(name, value) for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{found!r} is no accumulator: {error}") from error


def _value(name: str, value: Json) -> object:
    if name == "inner":
        return read_accumulator(value)
    if name == "order" and isinstance(value, list):
        return tuple(value)
    return _MODES[name](value) if name in _MODES else value
