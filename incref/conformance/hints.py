"""What the places of wrong elements have in common: a hint at the cause."""

from collections.abc import Sequence

from incref.conformance.comparison import Kind, Mismatch

__all__ = ["find_hint"]

_PERIODS = (2, 4, 8, 16, 32, 64, 128)


def find_hint(mismatch: Mismatch) -> str:
    """Say what all wrong places share that the right ones need not, or nothing.

    Args:
        mismatch: with at least two wrong places, unless there is one element.
    """
    said = [text for text in (_also(mismatch.also), _kinds(mismatch), *map(_axis, _axes(mismatch))) if text]
    if mismatch.count == mismatch.total:
        said.insert(0, "every element is wrong")
    return "; ".join(said)


def _also(other: Mismatch | None) -> str:
    """Point to a second result that is wrong: codes follow from scales, not scales from codes."""
    if other is None:
        return ""
    how = f", first at {other.places[0]}: got {other.got}, want {other.want}"
    steps = set(other.steps)
    if len(steps) == 1:
        step = steps.pop()
        how = (
            f", {'each' if other.count > 1 else 'it'} {abs(step)} {'above' if step > 0 else 'below'} the right one{how}"
        )
    return f"result {other.result} is wrong too ({other.count} of {other.total}{how}): look there first"


def _kinds(mismatch: Mismatch) -> str:
    """What kind all are of, if it is one that says something."""
    if len(mismatch.kinds) != 1 or next(iter(mismatch.kinds)) in (Kind.OTHER, Kind.BEYOND_BOUND):
        return ""
    words = {
        Kind.ZERO_SIGN: "only signs of zeros",
        Kind.NAN: "NaN for a number, or a number for NaN",
        Kind.INFINITY: "Inf for a number, or a number for Inf",
        Kind.NEIGHBOUR: "all are off by one step: a rounding",
        Kind.FACTOR_TWO: "all are off by a factor of two: an exponent or a scale",
        Kind.SIGN: "all have the wrong sign",
        Kind.ZERO: "all are zero: not written, masked or flushed",
    }
    return words[next(iter(mismatch.kinds))]


def _axes(mismatch: Mismatch) -> list[tuple[int, int, list[int]]]:
    """For each axis, its number, its extent and the places along it."""
    return [(d, size, [place[d] for place in mismatch.places]) for d, size in enumerate(mismatch.shape)]


def _axis(axis: tuple[int, int, list[int]]) -> str:
    number, size, places = axis
    if len(places) < 2 or size < 3:
        return ""
    least, most = min(places), max(places)
    name = f"index {number}"
    if least == most:
        return f"all mismatches have {name} == {least}{' (the last)' if least == size - 1 else ''}"
    if 2 * least >= size:
        return f"all mismatches have {name} >= {least}: tail"
    if 2 * most < size and most + 1 < size:
        return f"all mismatches have {name} <= {most}"
    return _period(name, places)


def _period(name: str, places: Sequence[int]) -> str:
    for period in reversed(_PERIODS):
        rests = {place % period for place in places}
        if len(rests) == 1 and len(set(places)) > 1:
            return f"all mismatches have {name} % {period} == {rests.pop()}"
    return ""
