"""Compile every Triton kernel for every target, without a GPU, and look at the machine code.

python -m conformance.aot [--json FILE] [--targets sm_90 gfx942] [--only matmul]

What has to hold: it compiles; nothing is spilled; contiguous tensors are read or written 16 bytes at a time; no product
and sum are contracted to one rounding; no subnormal is flushed; no division is approximate; products of matrices are
computed by matrix units, of the type that they should be; shared memory suffices; and a multiprocessor holds no fewer
warps than were recorded. What is in the file and is not compiled this time stays there.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import triton

from conformance.aot.builds import builds
from conformance.aot.compile import compile_for
from conformance.aot.machine_code import Code
from conformance.aot.targets import TARGETS
from conformance.record import Json

__all__ = ["main"]


def _lower_occupancy(code: Code, before: object) -> list[str]:
    """Say whether fewer warps fit than before."""
    if not isinstance(before, dict) or not isinstance(before.get("occupancy"), int):
        return []
    recorded = int(before["occupancy"])
    return [f"occupancy fell from {recorded} to {code.occupancy}"] if code.occupancy < recorded else []


def _read(path: Path | None) -> dict[str, dict[str, Json]]:
    """Read what was recorded with this Triton."""
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text())
    return dict(found["kernels"]) if found["triton"] == triton.__version__ else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile all for all; the exit status is 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="file that the table is written to")
    parser.add_argument("--targets", nargs="+", choices=[*TARGETS], default=[*TARGETS])
    parser.add_argument("--only", nargs="+", default=[""], help="calls whose names contain one of these")
    options = parser.parse_args(arguments)
    # No result of an earlier compilation is taken.
    os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp(prefix="incref-aot-"))
    rows, every = _read(options.json), list(builds())
    is_wrong, known = False, dict[str, Code]()
    for build in every:
        if not any(part in build.name for part in options.only):
            continue
        for name in options.targets:
            reason = build.why_not(TARGETS[name].launched_on)
            if reason is not None:
                rows.setdefault(build.name, {})[name] = {"why_not": reason}
                continue
            found: dict[str, Json] = {}
            before = rows.get(build.name, {}).get(name)
            for kernel, code in compile_for(build, TARGETS[name], known):
                key = kernel if kernel not in found else f"{kernel} {len(found)}"
                recorded = before.get(key) if isinstance(before, dict) else None
                code.faults += _lower_occupancy(code, recorded)
                is_wrong = is_wrong or bool(code.faults)
                found[key] = asdict(code)
                if code.faults:
                    sys.stdout.write(f"{build.name} for {name}, {key}: {'; '.join(code.faults)}\n")
            rows.setdefault(build.name, {})[name] = found
        sys.stdout.write(f"{build.name}: {len(options.targets)} targets\n")
        sys.stdout.flush()
        if options.json:
            kept = {one.name: rows[one.name] for one in every if one.name in rows}
            options.json.write_text(json.dumps({"triton": triton.__version__, "kernels": kept}, indent=1) + "\n")
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
