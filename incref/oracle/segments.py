"""Encoding as a list of segments: from which source pattern on a code is the answer.

Encoding is monotone, so over the patterns of one sign it is piecewise constant. The pieces are computed once, from the
exact boundaries between neighbouring values; checking any number of patterns is then a comparison with constants.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from incref.errors import NanError
from incref.formats import (
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    Specials,
)
from incref.oracle.datum import Datum, Kind, infinity
from incref.oracle.encode import encode, outside
from incref.oracle.ladder import Ladder, ladder
from incref.oracle.specials import greatest_number, sign_bit

__all__ = ["Segment", "encode_segments", "merge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A run of source patterns with one answer; it ends where the next one starts.

    Attributes:
        first: the first pattern.
        code: the answer, or None where `NanRule.ERROR` refuses.
    """

    first: int
    code: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Boundary:
    """Least magnitude of a rung: `twice / 2` in the units of the ladder, itself included or not."""

    twice: int
    is_included: bool
    rung: int


def encode_segments(
    source: FloatFormat,
    target: ElementFormat,
    *,
    is_negative: bool,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
) -> tuple[Segment, ...]:
    """List the segments of `encode` over all patterns of one sign of `source`, Inf and NaN included.

    Args:
        source: an IEEE format, such as float32.
        target: the format encoded into.
        is_negative: whether the patterns with or without the sign bit are listed.
        rounding: any mode but the stochastic one, which depends on more than the pattern.
        overflow: as for `encode`.
        nan: as for `encode`.
        int_range: as for `encode`.

    Returns:
        Segments in ascending order of patterns, the first one starting at zero.

    >>> from incref.formats import FORMATS, get_format
    >>> runs = encode_segments(FORMATS["float32"], get_format("e2m1"), is_negative=False, nan=NanRule.MAX)
    >>> [(hex(run.first), run.code) for run in runs[:3]]
    [('0x0', 0), ('0x3e800001', 1), ('0x3f400000', 2)]

    Raises:
        ValueError: for stochastic rounding, or a source without the IEEE infinities.
    """
    if source.specials is not Specials.IEEE:
        raise ValueError(f"patterns of an IEEE format are listed, got {source.name}")
    sign = sign_bit(source) if is_negative else 0
    rungs = ladder(target, is_negative=is_negative, int_range=int_range)
    source_rungs = ladder(source, is_negative=is_negative)
    segments = []
    for boundary in _boundaries(target, rungs, rounding, is_negative=is_negative):
        code = rungs.code(boundary.rung) if boundary.rung < len(rungs.magnitudes) else None
        if code is None:
            stand_in = Datum(is_negative=is_negative)
            try:
                code = outside(
                    stand_in, target, overflow=overflow, nan=nan, int_range=int_range, is_zero=boundary.rung == 0
                )
            except NanError:
                code = None
        segments.append(Segment(first=sign | _first_rung(boundary, rungs, source_rungs), code=code))
    infinite = greatest_number(source) + 1
    for first, special in (
        (infinite, infinity(is_negative=is_negative)),
        (infinite + 1, Datum(kind=Kind.NAN, is_negative=is_negative)),
    ):
        try:
            code = encode(special, target, overflow=overflow, nan=nan, int_range=int_range)
        except NanError:
            code = None
        segments.append(Segment(first=sign | first, code=code))
    return merge(segments)


def _boundaries(fmt: ElementFormat, rungs: Ladder, rounding: Rounding, *, is_negative: bool) -> Iterator[_Boundary]:
    """Where each rung begins, the first one at zero."""
    yield _Boundary(twice=0, is_included=True, rung=0)
    last = len(rungs.magnitudes) - 1
    is_toward_zero = rounding is Rounding.TOWARD_ZERO or rounding is (
        Rounding.TOWARD_POSITIVE if is_negative else Rounding.TOWARD_NEGATIVE
    )
    for rung in range(1, last + 1):
        lower, upper = rungs.magnitudes[rung - 1], rungs.magnitudes[rung]
        if rounding is Rounding.NEAREST_EVEN:
            yield _Boundary(twice=lower + upper, is_included=rungs.is_even(rung), rung=rung)
        elif rounding is Rounding.NEAREST_AWAY:
            yield _Boundary(twice=lower + upper, is_included=True, rung=rung)
        elif rounding is Rounding.STOCHASTIC:
            raise ValueError(f"{rounding} depends on more than the pattern, so it has no segments")
        elif not is_toward_zero:
            yield _Boundary(twice=2 * lower, is_included=False, rung=rung)
        elif rung < last or not isinstance(fmt, FloatFormat):
            yield _Boundary(twice=2 * upper, is_included=True, rung=rung)
    if isinstance(fmt, CodebookFormat):
        yield _Boundary(twice=2 * rungs.magnitudes[last], is_included=False, rung=last + 1)


def _first_rung(boundary: _Boundary, rungs: Ladder, source: Ladder) -> int:
    """Rung of the least source magnitude that a boundary lets in; one beyond all if there is none."""
    # The boundary in units of the source: `whole`, and a part of a unit if there is a `rest`.
    shift = rungs.exponent - 1 - source.exponent
    if shift >= 0:
        whole, rest = boundary.twice << shift, 0
    else:
        whole, rest = divmod(boundary.twice, 1 << -shift)
    finite = len(source.magnitudes) - 1
    if boundary.is_included and rest == 0:
        return bisect_left(source.magnitudes, whole, 0, finite)
    return bisect_right(source.magnitudes, whole, 0, finite)


def merge(segments: list[Segment]) -> tuple[Segment, ...]:
    """Drop segments without patterns and join neighbours with one answer."""
    kept: list[Segment] = []
    for segment in segments:
        if kept and kept[-1].first == segment.first:
            kept.pop()
        if not kept or kept[-1].code != segment.code:
            kept.append(segment)
    return tuple(kept)
