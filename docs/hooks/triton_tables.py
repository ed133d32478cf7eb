"""Tables of the Triton kernels: their machine code, and the faults that were planted in them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from markdown_cells import code, table

from conformance.triton_mutations import MUTATIONS

__all__ = ["triton_code_of_conversions", "triton_code_of_products", "triton_faults", "triton_units", "triton_why_not"]

_RESULTS = Path(__file__).parents[2] / "conformance" / "results"


def _kernels() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((_RESULTS / "aot.json").read_text())["kernels"]
    return found


def _targets(kernels: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(target for row in kernels.values() for target in row))


def _cell(found: dict[str, Any] | None) -> str:
    """Registers and occupancy of the kernel of a call that takes most."""
    if not found or "why_not" in found:
        return ""
    most = max(found.values(), key=lambda one: one["registers"])
    mark = " (!)" if any(one["faults"] for one in found.values()) else ""
    return f"{most['registers']} / {most['occupancy']}{mark}"


def _code(is_product: bool) -> str:  # noqa: FBT001  # one place
    kernels = {name: row for name, row in _kernels().items() if ("matmul" in name) == is_product}
    targets = _targets(kernels)
    return table(
        ["call", *targets], [[name, *(_cell(row.get(one)) for one in targets)] for name, row in kernels.items()]
    )


def triton_code_of_products() -> str:
    """Registers of a thread and occupancy of products of matrices."""
    return _code(is_product=True)


def triton_code_of_conversions() -> str:
    """Registers of a thread and occupancy of everything else."""
    return _code(is_product=False)


def triton_units() -> str:
    """Which instructions of matrix units the products use."""
    kernels, rows = _kernels(), []
    for target in _targets(kernels):
        units = Counter(
            one["units"]
            for row in kernels.values()
            for one in row.get(target, {}).values()
            if isinstance(one, dict) and one["units"]
        )
        rows.append([target, ", ".join(code(unit) for unit in sorted(units))])
    return table(["target", "instructions"], rows)


def triton_why_not() -> str:
    """What targets don't run, and why."""
    kernels = _kernels()
    reasons: dict[str, list[str]] = {}
    for row in kernels.values():
        for target, found in row.items():
            if "why_not" in found and target not in (known := reasons.setdefault(found["why_not"], [])):
                known.append(target)
    return table(["reason", "targets"], [[reason, ", ".join(targets)] for reason, targets in reasons.items()])


def triton_faults() -> str:
    """Faults in the sources of the kernels that are shipped, and the level that finds each."""
    found = json.loads((_RESULTS / "triton_faults.json").read_text())["faults"]
    header = ["operation", "fault", "what is wrong", "found at level, or by cases of"]
    rows = [
        [code(one.op), code(one.name), one.story, _level(found[one.name]["level"])]
        for one in MUTATIONS
        if one.name in found
    ]
    return table(header, rows)


def _level(level: int | str | None) -> str:
    return "not found" if level is None else f"{level}"
