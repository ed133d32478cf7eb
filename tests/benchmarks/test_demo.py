import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import demo as module


@pytest.fixture
def tiny_demo(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demonstration, on a model that needs no download; the folder that it works in."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "install_missing", lambda _: None)

    def make(directory: Path) -> None:
        if not directory.exists():
            shutil.copytree(tiny_llama, directory)
            (directory / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")

    monkeypatch.setattr(module, "make_smollm2", make)
    return tmp_path


def test_runs_from_the_model_to_the_text(tiny_demo: Path) -> None:
    app = typer.Typer()
    app.command()(module.demo)
    arguments = ["--windows", "2", "--window", "16", "--quiet"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "incref generate" in first.stdout
    results = tiny_demo / "build" / "demo"
    found = json.loads((results / "smollm2.json").read_text())
    assert [row["scheme"] for row in found["rows"]] == ["float32", *module._SCHEMES]
    assert (results / "smollm2.png").stat().st_size > 0
    times = {path: path.stat().st_mtime_ns for path in (results / "journal").iterdir()}
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 0
    assert json.loads((results / "smollm2.json").read_text()) == found
    assert {path: path.stat().st_mtime_ns for path in (results / "journal").iterdir()} == times
