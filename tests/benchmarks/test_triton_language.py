"""The table of Triton's language: nothing is wrong natively, and what is kept is what is found."""

import json
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")
if type(triton.language.max).__name__ == "InterpretedFunction":
    pytest.skip("this process interprets Triton (TRITON_INTERPRET)", allow_module_level=True)

from benchmarks.triton_native.language.outcome import outcome  # noqa: E402
from benchmarks.triton_native.language.row import Row  # noqa: E402
from benchmarks.triton_native.language.table import ROWS  # noqa: E402

_KEPT = json.loads((Path(__file__).parents[2] / "benchmarks/results/triton_language.json").read_text())
# Of more than a thousand rows one in so many is run here; `python -m benchmarks.triton_native.language` runs them all.
_SAMPLE = ROWS[::131]


def test_nothing_is_wrong_natively_and_each_gap_is_an_error_that_says_why() -> None:
    results = [result for rows in _KEPT["native"].values() for row in rows.values() for result in row.values()]
    assert all(result == {"wrong": 0} or result.get("refused") or result.get("unsupported") for result in results)


@pytest.mark.skipif(triton.__version__ != _KEPT["triton"], reason="other versions have other operations")
@pytest.mark.parametrize("way", ["native", "interpreter"])
def test_every_row_is_kept(way: str) -> None:
    kept = [(g, o, t) for g, rows in _KEPT[way].items() for o, row in rows.items() for t in row]
    assert sorted(kept) == sorted((row.group, row.operation, row.dtype) for row in ROWS)


@pytest.mark.skipif(triton.__version__ != _KEPT["triton"], reason="other versions have other gaps")
@pytest.mark.parametrize("row", _SAMPLE, ids=lambda row: f"{row.operation}, {row.dtype}")
def test_a_row_is_as_kept(row: Row) -> None:
    kept = _KEPT["native"][row.group][row.operation][row.dtype]
    assert (
        list(outcome(row).items())[:1] == list(kept.items())[:1]
        if "wrong" in kept
        else outcome(row).keys() == kept.keys()
    )
