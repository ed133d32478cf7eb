"""Reports of a run that went wrong: JSON, JUnit, HTML, explanation, reproducer and statement."""

import contextlib
import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from torch import Tensor

from conformance.faults.fp8_matmul import Fp8LastDropped
from incref.conformance.answers import Answers
from incref.conformance.explain import explain
from incref.conformance.html import as_html
from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.junit import as_junit
from incref.conformance.report import SCHEMA, as_json
from incref.conformance.reproducer import reproducer
from incref.conformance.result import Outcome, Status
from incref.conformance.run import plan_cases, run
from incref.conformance.shrink import shrink
from incref.conformance.statement import make_statement, verify_statement
from incref.ops import decode, quantize_mx


def tail_wrong(x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
    codes, *scales = quantize_mx(x, fmt, **options)  # type: ignore[arg-type]
    if x.ndim == 2 and options.get("axis", -1) == -1 and x.shape[1] > 40:
        codes = codes.clone()
        codes[:, 40:] ^= 1
    return codes, *scales


WRONG = Candidate(op="quantize_mx", fn=tail_wrong, options={"fmt": ["mxfp4"]})


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return run(Implementation.of("tail<wrong>", WRONG), level=0)


@pytest.fixture(scope="module")
def right() -> Outcome:
    return run(Implementation.of("right", Candidate(op="decode", fn=decode)), level=0)


def test_json_has_the_mismatch(outcome: Outcome) -> None:
    found = json.loads(json.dumps(as_json(outcome)))
    assert found["schema"] == SCHEMA
    wrong = [one for one in found["not_passed"] if one["status"] == "fail"]
    assert wrong
    assert wrong[0]["mismatch"]["count"] > 0
    assert "index 1 >= 40: tail" in wrong[0]["hint"]


def test_junit_counts_what_the_run_counts(outcome: Outcome) -> None:
    suite = ET.fromstring(as_junit(outcome))  # noqa: S314  # written a line ago
    assert int(suite.attrib["failures"]) == outcome.counts[Status.FAIL] == len(suite.findall(".//failure"))
    assert int(suite.attrib["skipped"]) == outcome.counts[Status.NOT_SUPPORTED] == len(suite.findall(".//skipped"))


def test_junit_of_nothing_fails(outcome: Outcome) -> None:
    suite = ET.fromstring(as_junit(replace(outcome, results=[])))  # noqa: S314  # likewise
    assert suite.attrib["failures"] == "1"
    assert "no case was run" in suite.find(".//failure").attrib["message"]  # type: ignore[union-attr]


def test_html_is_one_page_and_escapes(outcome: Outcome) -> None:
    page = as_html(outcome, details="a < b")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 2
    assert "tail&lt;wrong&gt;" in page
    assert "a &lt; b" in page
    assert "http" not in page


def test_a_failure_is_shrunk_and_its_reproducer_runs(outcome: Outcome) -> None:
    key = next(result.key for result in outcome.results if result.status is Status.FAIL)
    case = next(one for one in plan_cases(WRONG, level=0) if one.key == key)
    small = shrink(WRONG, case, Answers())
    assert small.result.status is Status.FAIL
    x = small.case.arguments["x"]
    assert isinstance(x, Tensor)
    assert int((x != 0).sum()) <= 1
    assert small.case.key.count("/shrunk") == 1
    words = explain(small.case, small.result)
    assert "expected" in words
    assert "derivation: quantize_mx@1.0" in words
    program = reproducer(small.case)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "reproducer", "exec"), {})  # noqa: S102  # that it runs is the point
    assert "tensor" in printed.getvalue()


def test_a_wrong_product_is_explained_by_its_exact_sum() -> None:
    box = Fp8LastDropped().candidate()
    case = next(one for one in plan_cases(box, level=0) if one.generator == "identity1")
    small = shrink(box, case, Answers())
    assert small.result.status is Status.FAIL
    (line,) = (line for line in explain(small.case, small.result).splitlines() if "exact sum of the products" in line)
    x, w = (decode(small.case.tensors[name], "float8_e4m3fn").double() for name in ("x", "w"))
    assert small.result.mismatch is not None
    place = small.result.mismatch.places[0]
    assert f": {Fraction((x @ w.T)[place].item())};" in line


def test_a_reproducer_makes_the_same_arguments() -> None:
    case = next(iter(plan_cases(WRONG, level=0)))
    scope: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(reproducer(case), "reproducer", "exec"), scope)  # noqa: S102  # as above
    x, want = scope["x"], case.arguments["x"]
    assert isinstance(x, Tensor)
    assert isinstance(want, Tensor)
    assert torch.equal(x.view(torch.int32), want.contiguous().view(torch.int32))


def statement_of(outcome: Outcome, folder: Path) -> tuple[dict[str, object], Path]:
    path = folder / "result.json"
    path.write_text(json.dumps(as_json(outcome)))
    return make_statement(path), path  # type: ignore[return-value]


def test_a_statement_agrees_with_its_result(right: Outcome, tmp_path: Path) -> None:
    statement, path = statement_of(right, tmp_path)
    assert verify_statement(statement, path) == []  # type: ignore[arg-type]
    assert str(statement["says"]).startswith("passed suite")
    assert "correct" not in json.dumps(statement)


@pytest.mark.parametrize("name", ["says", "counts", "level", "sha256", "suite", "seed"])
def test_a_changed_statement_is_found_out(right: Outcome, tmp_path: Path, name: str) -> None:
    statement, path = statement_of(right, tmp_path)
    assert verify_statement({**statement, name: "another"}, path)  # type: ignore[dict-item]


def test_a_changed_result_is_found_out(outcome: Outcome, tmp_path: Path) -> None:
    statement, path = statement_of(outcome, tmp_path)
    path.write_text(path.read_text().replace('"fail"', '"pass"'))
    wrong = " ".join(verify_statement(statement, path))  # type: ignore[arg-type]
    assert "is not the result" in wrong


def test_a_result_that_contradicts_itself_is_found_out(outcome: Outcome, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(as_json(outcome) | {"is_good": True}))
    statement = make_statement(path)
    assert "the result says that it is good" in " ".join(verify_statement(statement, path))


def test_a_file_of_the_implementation_is_hashed(right: Outcome, tmp_path: Path) -> None:
    _, path = statement_of(right, tmp_path)
    kernel = tmp_path / "kernel.cu"
    kernel.write_text("one")
    statement = make_statement(path, (kernel,))
    assert verify_statement(statement, path, (kernel,)) == []
    kernel.write_text("other")
    assert any("files_sha256" in one for one in verify_statement(statement, path, (kernel,)))
