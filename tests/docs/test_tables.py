"""The tables of the documentation come from the package, and the README's copy is up to date."""

import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from incref.formats import FORMATS, FloatFormat, get_format

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Callable[[], str]]:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "hooks"), *sys.path])
    found: Mapping[str, Callable[[], str]] = import_module("tables").TABLES
    return found


def test_readme_tables_are_the_generated_ones(tables: Mapping[str, Callable[[], str]]) -> None:
    shown = re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(shown) == 3
    assert [name for name, text in shown if text != tables[name]()] == [], "run `make readme`"


def test_every_format_has_one_row(tables: Mapping[str, Callable[[], str]]) -> None:
    names = ("float_formats", "draft_formats", "int_formats", "block_formats", "codebook_formats")
    rows = [line.split("`")[1] for name in names for line in tables[name]().splitlines()[2:]]
    assert sorted(rows) == sorted(FORMATS)


def test_a_row_holds_limits_and_codes(tables: Mapping[str, Callable[[], str]]) -> None:
    row = next(line for line in tables["float_formats"]().splitlines() if line.startswith("| `float8_e5m2` "))
    cells = [cell.strip() for cell in row.split("|")[3:10]]
    assert cells == ["1, 5, 2", "15", "57344", "2<sup>-14</sup>", "2<sup>-16</sup>", "`0x7C`", "`0x7E`"]


def test_short_names_in_a_row_have_one_reading(tables: Mapping[str, Callable[[], str]]) -> None:
    for line in tables["float_formats"]().splitlines()[2:]:
        name, also = (cell.split("`")[1::2] for cell in line.split("|")[1:3])
        assert isinstance(get_format(name[0]), FloatFormat)
        assert [get_format(short).name for short in also] == name * len(also)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_tables_that_a_page_asks_for_exist(page: Path, tables: Mapping[str, Callable[[], str]]) -> None:
    wanted = [line.split()[2] for line in page.read_text().splitlines() if line.startswith("<!-- table: ")]
    assert set(wanted) <= set(tables)
