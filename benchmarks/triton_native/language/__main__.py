"""Run every operation of the language on every type, compiled for the CPU and interpreted, and keep what differs.

python -m benchmarks.triton_native.language --json benchmarks/results/triton_language.json

What is expected comes from numpy, from the reference of this package, or from exact arithmetic; sums and products are
of small integers, so that every order gives the same.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton

from benchmarks.triton_native.language.row import Row
from benchmarks.triton_native.language.table import ROWS
from incref.checkpoints.files import write_atomically

__all__ = ["main"]


def _interpreted(kernel: Any, grid: int, *args: object, **constants: object) -> None:  # noqa: ANN401
    kernel[(grid,)](*args, **constants)


def _result(row: Row, way: str) -> dict[str, Any]:
    """How many results are wrong; or that Triton's language has no such thing, or that it can't be run, and why."""
    from benchmarks.triton_native.language.outcome import outcome  # noqa: PLC0415

    return outcome(row, _interpreted if way == "interpreter" else None)


def _run(way: str, chosen: list[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in chosen:
        with contextlib.redirect_stdout(io.StringIO()):
            result = _result(row, way)
        found.setdefault(row.group, {}).setdefault(row.operation, {})[row.dtype] = result
        print(f"{row.group}: {row.operation}, {row.dtype}: {result}", flush=True)
    return found


def main() -> None:
    """Run the rows, print what is not right, and keep all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are kept")
    parser.add_argument("--only", default="", help="part of an operation's name")
    parser.add_argument("--way", choices=["native", "interpreter"], help="both if left out")
    arguments = parser.parse_args()
    np.seterr(all="ignore")
    chosen = [row for row in ROWS if arguments.only in f"{row.group}: {row.operation}"]
    if arguments.way is not None:
        print(json.dumps(_run(arguments.way, chosen)))
        return
    command = [sys.executable, "-m", "benchmarks.triton_native.language", "--only", arguments.only, "--way"]
    found: dict[str, Any] = {"triton": triton.__version__}
    for way in ("native", "interpreter"):
        environment = os.environ | {"TRITON_INTERPRET": str(int(way == "interpreter"))}
        run = subprocess.run([*command, way], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[way] = json.loads(run.stdout.splitlines()[-1])
    if arguments.json is not None:
        write_atomically(arguments.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
