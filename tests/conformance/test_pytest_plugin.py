"""The plugin makes a test of each case; each run here is a process of its own."""

import subprocess
import sys
from pathlib import Path

MODULE = """
from incref.conformance.implementation import kernel
from incref.ops import decode

@kernel("decode", options={"fmt": ["int8", "float8_e5m2"]})
def right(codes, fmt, *, dtype):
    return decode(codes, fmt, dtype=dtype)

@kernel("decode", options={"fmt": ["int8"]})
def wrong(codes, fmt, *, dtype):
    return -decode(codes, fmt, dtype=dtype)

@kernel("decode", supports=lambda case: False)
def nothing(codes, fmt, *, dtype):
    return None
"""


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "kernels.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "incref.conformance.pytest_plugin"]
    root = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": f"{folder}:{root}",
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        # Where the package is installed, the plugin is loaded by its entry point already.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [*command, "--rootdir", str(folder), "--incref-level", "0", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_right_wrong_and_nothing(tmp_path: Path) -> None:
    right = pytest_in(tmp_path, "--incref-impl", "kernels:right")
    assert right.returncode == 0, right.stdout
    assert "skipped" in right.stdout
    assert "level 0:" in right.stdout
    wrong = pytest_in(tmp_path, "--incref-impl", "kernels:wrong")
    assert wrong.returncode == 1
    assert "decode@1.0/all/int8/float32" in wrong.stdout
    assert pytest_in(tmp_path, "--incref-impl", "kernels:nothing").returncode == 1
