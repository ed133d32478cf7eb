import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# What the console script does, also where the package is not installed.
COMMAND = [sys.executable, "-c", "from incref.cli.main import app; app()"]


def test_commands_are_listed() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert all(
        name in done.stdout
        for name in ("eval", "plan", "quantize", "convert-checkpoint", "generate", "formats", "inspect", "info")
    )


def test_help_does_not_need_transformers() -> None:
    code = "import sys; sys.modules['transformers'] = None; from incref.cli.main import app; app()"
    done = subprocess.run([sys.executable, "-c", code, "info", "--json"], capture_output=True, text=True, check=True)
    assert "reference" in json.loads(done.stdout)["backends"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_loses_nothing_done(tiny_llama: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    # Long enough to be in the middle of it when the first result is there.
    small = ["--windows", "150", "--window", "64", "--json", "--quiet", "--journal", str(journal)]
    # Whoever runs the tests in the background may have them ignore the signal.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[-1]}"
    command = [*COMMAND[:-1], code, "eval", str(tiny_llama), *small]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while process.poll() is None and not list(journal.glob("*.json")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted. Results so far are in" in err
    assert "Traceback" not in err
    done = {path.name: path.stat().st_mtime_ns for path in journal.iterdir()}
    assert all(name.endswith(".json") for name in done)
    again = subprocess.run([*command, "--scheme", "int8"], capture_output=True, text=True, check=True, env=environment)
    assert [row["scheme"] for row in json.loads(again.stdout)["rows"]] == ["float32", "int8"]
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in journal.iterdir()}.items()
