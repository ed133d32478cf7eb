"""The page for kernel authors, followed to the letter: what it has one paste and run prints what it shows."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from incref.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "first-ten-minutes.md").read_text()
STEPS = PAGE[: PAGE.index("## 4.")]
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```$", STEPS, re.MULTILINE | re.DOTALL)
FILE, LINE = (block for kind, block in BLOCKS if kind)
COMMANDS = [
    [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)[1:]]
    for line in re.findall(r"^incref .*$", STEPS, re.MULTILINE)
]
SHOWN = [block for kind, block in BLOCKS if not kind]


def run(words: list[str]) -> tuple[int, str]:
    # A wide terminal, so that no line is broken.
    result = CliRunner().invoke(app, words, env={"COLUMNS": "400", "TERM": "dumb"})
    sys.modules.pop("my_kernels", None)
    return result.exit_code, result.output


def test_the_page_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    kernels = tmp_path / "my_kernels.py"
    kernels.write_text(FILE)
    first, replay, second, make, verify = COMMANDS
    failure, one_element = (block for block in SHOWN if block.startswith(("FAIL", "x = ")))

    status, said = run(first)
    assert status == 1
    assert failure in said
    status, said = run(replay)
    assert status == 1
    assert one_element in said

    wrong = next(line for line in FILE.splitlines(keepends=True) if "exponent =" in line)
    kernels.write_text(FILE.replace(wrong, LINE))
    status, said = run(second)
    assert status == 0
    (promise,) = re.findall(r"ends with `(passed.*?)`", STEPS)
    assert promise in said
    assert (tmp_path / "report.html").stat().st_size > 0
    assert run(make)[0] == 0
    status, said = run(verify)
    assert status == 0, said

    kernels.write_text(FILE)
    assert run(verify)[0] == 1
