"""Run other people's kernels, and print and keep how they did.

`pip install --no-deps --target build/public liger-kernel fla-core einops torchao gemlite`, then
`PYTHONPATH=build/public python -m benchmarks.triton_native.public`. `--way mistakes`, `outputs`, `orders` and `nans`
look for mistakes of kernels; `TRITON_INTERPRET=1` and `--way interpreter` are Triton's interpreter.
"""

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.triton_native.public.asked import answered
from benchmarks.triton_native.public.case import Case
from benchmarks.triton_native.public.fla import FLA
from benchmarks.triton_native.public.gemlite import GEMLITE
from benchmarks.triton_native.public.liger import LIGER
from benchmarks.triton_native.public.measure import measure
from benchmarks.triton_native.public.torchao import TORCHAO
from benchmarks.triton_native.public.ways import WAYS
from incref.checkpoints.files import write_atomically

CASES: dict[str, Case] = {**LIGER, **FLA, **TORCHAO, **GEMLITE}


def main() -> None:
    """Run all cases, print what was found, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, default="native", help="how kernels are run")
    parser.add_argument("--case", action="append", choices=CASES, help="all of them if left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are kept, beside those of other ways")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with WAYS[arguments.way](), answered():
        for name in arguments.case or CASES:
            try:
                found[name] = measure(CASES[name])
            except Exception as error:  # noqa: BLE001  # whatever a kernel of others raises is its result
                found[name] = {"failure": f"{type(error).__name__}: {_reason(error)}"}
                traceback.print_exc()
            print(name, found[name], flush=True)
    if arguments.json is not None:
        kept = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        write_atomically(arguments.json, (json.dumps({**kept, arguments.way: found}, indent=2) + "\n").encode())


def _reason(error: Exception) -> str:
    """The last line, without what else would be possible and where packages lie."""
    line = str(error).strip().splitlines()[-1].split(". ")[0]
    for directory in filter(None, sys.path):
        line = line.replace(f"{directory}/", "")
    return line


if __name__ == "__main__":
    main()
