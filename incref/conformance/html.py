"""An outcome as one HTML page that needs nothing else."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from incref.conformance.comparison import Kind, Mismatch
from incref.conformance.result import Outcome, Result

__all__ = ["as_html"]

_MOST_DETAILS = 50
_CELL = 6
_LETTER = 6
"""Widths in pixels, the latter of a title."""
_MOST_CELLS = 64
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2rem .6rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.bad{color:#b00020}.good{color:#0a7d2c}"
    "pre{background:#f4f4f4;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".words{text-align:left}svg{margin:.5rem 1rem .5rem 0;vertical-align:top}"
)


def as_html(outcome: Outcome, *, details: str = "") -> str:
    """Make the page.

    Args:
        outcome: what was found.
        details: the first failure in words, shrunk, with a program that shows it; plain text.
    """
    return "".join(_parts(outcome, details))


def _parts(outcome: Outcome, details: str) -> Iterator[str]:
    title = escape(f"incref conformance: {outcome.implementation}")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    yield f"<h1>{title}</h1>"
    kind = "good" if outcome.is_good else "bad"
    yield f'<p class="{kind}"><strong>{escape(outcome.verdict)}</strong></p>'
    yield f"<p>Seed {outcome.seed}, judged by the {escape(outcome.judge)}, {outcome.seconds:.1f} s.</p>"
    yield from _counts(outcome)
    yield from _declared(outcome)
    if details:
        yield f"<h2>First failure</h2><pre>{escape(details)}</pre>"
    bad = [result for result in outcome.results if result.status.is_bad]
    if bad:
        yield f"<h2>Failures</h2><p>{len(bad)} cases; the first {min(len(bad), _MOST_DETAILS)} of them.</p>"
        yield from _kinds(bad)
    for result in bad[:_MOST_DETAILS]:
        yield from _failure(result)
    yield "</html>\n"


def _counts(outcome: Outcome) -> Iterator[str]:
    shown = [status for status, count in outcome.counts.items() if count]
    yield "<table><tr><th>operation</th>"
    yield "".join(f"<th>{escape(status.value.replace('_', ' '))}</th>" for status in shown) + "</tr>"
    for op in outcome.ops:
        counts = Counter(result.status for result in outcome.results if result.op == op)
        cells = "".join(
            f'<td class="{"bad" if status.is_bad and counts[status] else ""}">{counts[status]}</td>' for status in shown
        )
        yield f"<tr><td>{escape(op)}</td>{cells}</tr>"
    yield "</table>"


def _declared(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Declared</h2><table>"
    for op, declared in outcome.declared.items():
        words = "; ".join(f"{name}: {value if value not in ({}, []) else 'none'}" for name, value in declared.items())
        yield f'<tr><td>{escape(op)}</td><td class="words">{escape(words)}</td></tr>'
    yield "</table>"


def _kinds(bad: Sequence[Result]) -> Iterator[str]:
    counts: Counter[Kind] = Counter()
    for result in bad:
        counts.update(result.mismatch.kinds if result.mismatch is not None else {})
    yield "<table><tr><th>kind of mismatch</th><th>elements looked at</th></tr>"
    for kind, count in counts.most_common():
        yield f"<tr><td>{escape(kind.value.replace('_', ' '))}</td><td>{count}</td></tr>"
    yield "</table>"


def _failure(result: Result) -> Iterator[str]:
    yield f"<h3>{escape(result.key)}</h3><p>{escape(result.status.value)}: {escape(result.reason)}</p>"
    if result.hint:
        yield f"<p>Hint: {escape(result.hint)}</p>"
    if result.mismatch is not None:
        yield _heat_map(result.mismatch)
        yield _histogram(result.mismatch)
        yield _histogram_of_shares(result.mismatch)


def _heat_map(mismatch: Mismatch) -> str:
    """Where the wrong elements are, over the last two dimensions, several in a cell if there are many."""
    shape = mismatch.shape[-2:] if len(mismatch.shape) > 1 else (1, *mismatch.shape[-1:])
    if len(shape) < 2 or 0 in shape:
        return ""
    steps = [-(-size // _MOST_CELLS) for size in shape]
    cells: Counter[tuple[int, int]] = Counter()
    for place in mismatch.places:
        row, column = place[-2:] if len(place) > 1 else (0, place[0])
        cells[row // steps[0], column // steps[1]] += 1
    high, wide = (-(-size // step) for size, step in zip(shape, steps, strict=True))
    most = max(cells.values())
    marks = "".join(
        f'<rect x="{column * _CELL}" y="{row * _CELL}" width="{_CELL}" height="{_CELL}" '
        f'fill="#b00020" fill-opacity="{0.3 + 0.7 * count / most:.2f}"/>'
        for (row, column), count in sorted(cells.items())
    )
    title = f"mismatches over {shape[0]} x {shape[1]}, {steps[0]} x {steps[1]} in a cell"
    return _svg(wide * _CELL, high * _CELL, title, marks)


def _histogram(mismatch: Mismatch) -> str:
    """How many steps of the dtype results are off: one bar for each power of two, of either sign."""
    bins: Counter[int] = Counter()
    for step in mismatch.steps:
        bins[step.bit_length() if step >= 0 else -abs(step).bit_length()] += 1
    low, high, most = min(bins), max(bins), max(bins.values())
    bars = "".join(
        f'<rect x="{(place - low) * 14}" y="{60 - 60 * bins[place] / most:.0f}" width="12" '
        f'height="{60 * bins[place] / most:.0f}" fill="#345"><title>{_range(place)}: {bins[place]}</title></rect>'
        for place in range(low, high + 1)
    )
    return _svg((high - low + 1) * 14, 60, f"steps off, {_range(low)} to {_range(high)}", bars)


def _histogram_of_shares(mismatch: Mismatch) -> str:
    """How many times the bound errors are: one bar for each power of two, from the bound itself on."""
    finite = [share for share in mismatch.shares if math.isfinite(share)]
    if not finite:
        return ""
    bins = Counter(max(math.frexp(share)[1] - 1, 0) for share in finite)
    last, most = max(bins), max(bins.values())
    bars = "".join(
        f'<rect x="{place * 14}" y="{60 - 60 * bins[place] / most:.0f}" width="12" '
        f'height="{60 * bins[place] / most:.0f}" fill="#345"><title>from {1 << place}: {bins[place]}</title></rect>'
        for place in range(last + 1)
    )
    return _svg((last + 1) * 14, 60, f"error / bound, 1 to {1 << last}", bars)


def _range(place: int) -> str:
    """The steps that fall into a bar."""
    if place == 0:
        return "0"
    least = 1 << (abs(place) - 1)
    return f"{'-' if place < 0 else ''}{least}"


def _svg(width: int, height: int, title: str, inside: str) -> str:
    room = max(width, _LETTER * len(title))
    return (
        f'<svg width="{room}" height="{height + 18}" role="img"><title>{escape(title)}</title>'
        f'<rect width="{width}" height="{height}" fill="#eee"/>{inside}'
        f'<text x="0" y="{height + 14}" font-size="10">{escape(title)}</text></svg>'
    )
