import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from incref.cli.main import app
from incref.conformance.report import SCHEMA


def invoke(*arguments: str) -> object:
    return CliRunner().invoke(app, ["conform", *arguments])


def test_list_counts_the_cases_of_every_operation() -> None:
    found = json.loads(invoke("list", "--level", "0", "--json").stdout)
    assert all(row["cases"] > 0 for row in found["operations"].values())
    assert "reference" in found["implementations"]


def test_run_writes_json_and_says_what_passed(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result = invoke("run", "reference", "--level", "0", "--op", "pack", "--json", str(path))
    assert result.exit_code == 0
    assert "a part of suite" in result.stdout
    found = json.loads(path.read_text())
    assert found["schema"] == SCHEMA
    assert found["counts"]["pass"] == len(found["cases"]) > 0
    assert found["not_passed"] == []


def test_running_nothing_is_a_failure() -> None:
    result = invoke("run", "reference", "--level", "0", "--match", "nothing")
    assert result.exit_code == 1
    assert "no case was run" in result.stdout


def test_what_does_not_exist_is_named() -> None:
    assert "no operation is called" in invoke("run", "reference", "--op", "nonsense").stderr
    assert "no profile is called" in invoke("run", "reference", "--profile", "nonsense").stderr
    result = invoke("run", "no.such.module:thing")
    assert result.exit_code == 1
    assert "error: No module named" in result.stderr


PRODUCTS = """
from incref.conformance.implementation import Implementation, kernel
from incref.ops import fp8_matmul, int8_matmul

@kernel("int8_matmul")
def integers(x, w, *scales, **options):
    return int8_matmul(x, w, *scales, **options)

@kernel("fp8_matmul", options={"x_fmt": ["float8_e4m3fn"]})
def floats(x, w, *scales, **options):
    return fp8_matmul(x, w, *scales, **options)
"""


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_products.py").write_text(PRODUCTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_products", raising=False)
    return "their_products:"


def test_a_product_is_identified(products: str) -> None:
    found = json.loads(invoke("identify", products, "float8_e4m3fn", "--op", "fp8_matmul", "--json").stdout)
    assert (found["options"]["accumulator"], found["options"]["order"]) == ("exact", "product")
    assert found["mismatches"] == 0
    result = invoke("identify", products, "int8", "--op", "int8_matmul")
    assert result.exit_code == 0
    assert "accumulator = int32" in result.stdout
    assert "not order = w_then_x: for a sum of" in result.stdout


def test_accumulators_are_probed(products: str) -> None:
    result = invoke("probe-acc", products, "--op", "int8_matmul")
    assert result.exit_code == 0
    assert "0 of 1029 sums within int32 are wrong" in result.stdout
    found = json.loads(invoke("probe-acc", products, "--format", "float8_e4m3fn", "--json").stdout)
    assert (found["bits"], found["declared_bits"]) == (25, 23)
    assert "has no decode" in " ".join(invoke("probe-acc", products, "--op", "decode").stderr.split())
