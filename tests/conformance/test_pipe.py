"""A program in C, compiled here, is judged over a pipe; what it does to itself does not end the run."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from incref.backends.declared import AnyOrder
from incref.conformance.implementation import Choice
from incref.conformance.pipe import PipeError, Program, pipe_implementation
from incref.conformance.result import Outcome, Status
from incref.conformance.run import run
from incref.numerics.accumulate.models import Aligned, Promoted

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("program") / "decode"
    source = Path(__file__).parent / "programs" / "decode.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", path, source], check=True)
    return str(path)


@pytest.fixture
def judge(program: str) -> Iterator[Callable[..., Outcome]]:
    opened: list[Program] = []

    def judged(mode: str = "", *, seconds: float = 10.0, match: str = "*") -> Outcome:
        implementation, process = pipe_implementation(f"{program} {mode}", seconds=seconds)
        opened.append(process)
        return run(implementation, level=1, match=match)

    yield judged
    for process in opened:
        process.close()


def test_a_right_program_passes_and_the_rest_is_not_supported(judge: Callable[..., Outcome]) -> None:
    counts = judge().counts
    assert counts[Status.PASS] > 5
    assert counts[Status.NOT_SUPPORTED] > 100
    assert counts[Status.FAIL] == counts[Status.ERROR] == 0


def test_a_wrong_program_fails(judge: Callable[..., Outcome]) -> None:
    outcome = judge("wrong", match="*/float8_e4m3fn/float32")
    assert outcome.counts[Status.FAIL] == len(outcome.results) == 1
    assert "factor of two" in outcome.results[0].hint


def test_a_crash_is_an_error_of_one_case(judge: Callable[..., Outcome]) -> None:
    outcome = judge("crash", match="*/float8_e4m3fn*")
    errors = [result for result in outcome.results if result.status is Status.ERROR]
    assert len(errors) > 2
    assert all("exit code -6" in result.reason for result in errors)


def test_a_hang_is_an_error_after_its_time(judge: Callable[..., Outcome]) -> None:
    outcome = judge("hang", seconds=0.2, match="*/float8_e4m3fn/float32")
    assert "gave no answer in 0.2 s" in outcome.results[0].reason


def test_a_program_that_does_not_read_is_an_error_after_its_time() -> None:
    program = Program(command="sleep 60", seconds=0.2)
    # More than any pipe holds.
    with pytest.raises(PipeError, match=r"gave no answer in 0\.2 s"):
        program.call("encode", {"x": torch.zeros(1 << 20), "fmt": "int8"})


@pytest.mark.parametrize("command", ["", "/no/such/program", "'unbalanced"])
def test_what_is_no_program_is_refused(command: str) -> None:
    with pytest.raises(PipeError, match="can't be started"):
        pipe_implementation(command)


@pytest.mark.parametrize("ops", ["{}", "[]", '["decode"]', '{"decode": 1}', '{"decode": {"fmt": "int8"}}'])
def test_operations_that_are_no_table_are_refused(ops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "_ask", lambda *_: ({}, {"ops": ops}))
    with pytest.raises(PipeError, match="ops must give lists of options for at least one operation"):
        Program(command="any").describe()


def test_what_a_program_declares_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "ops": '{"fp8_matmul": {"x_fmt": ["float8_e5m2"]}, "decode": {}}',
        "accumulators": '{"fp8_matmul": {"promoted": {"inner": "ada_mma_fp8", "every": 64}}}',
        "choices": '{"decode": ["any_nan_code"]}',
    }
    monkeypatch.setattr(Program, "_ask", lambda *_: ({}, told))
    product, decode = Program(command="any").describe()
    assert product.accumulator == Promoted(inner=Aligned(group=16, fraction_bits=13, result_bits=13), every=64)
    assert product.choices == frozenset()
    assert decode.choices == {Choice.ANY_NAN_CODE}
    assert decode.accumulator == AnyOrder()


@pytest.mark.parametrize(
    "told",
    [
        {"accumulators": "[]"},
        {"accumulators": '{"mx_matmul": "ada_mma_fp8"}'},
        {"choices": '{"decode": "any_nan_code"}'},
        {"choices": "no JSON"},
    ],
)
def test_declarations_of_nothing_are_refused(told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "_ask", lambda *_: ({}, {"ops": '{"decode": {}}', **told}))
    with pytest.raises(PipeError, match="must"):
        Program(command="any").describe()


@pytest.mark.parametrize(("declared", "passes"), [("ada", True), ("sequential", False)])
def test_a_program_is_held_to_the_accumulator_that_it_declares(declared: str, passes: bool) -> None:
    source = Path(__file__).parent / "programs" / "product.py"
    implementation, process = pipe_implementation(f"{sys.executable} {source} {declared}", seconds=60.0)
    try:
        outcome = run(implementation, level=0, match="*/bounded/*")
    finally:
        process.close()
    assert [one.status is Status.PASS for one in outcome.results] == [passes], outcome.results


def test_what_does_not_speak_the_protocol_is_refused() -> None:
    with pytest.raises(PipeError, match="ended with exit code"):
        pipe_implementation("false")
    with pytest.raises(PipeError, match=r"no safetensors message|must give ops|gave no answer|ended with"):
        pipe_implementation("echo nothing of use, but more than eight bytes", seconds=1.0)
