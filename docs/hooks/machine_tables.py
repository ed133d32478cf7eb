"""The rows of `incref.numerics.accumulate.table.MACHINES` as a table."""

import json
from pathlib import Path
from typing import Any

from markdown_cells import code, table

from incref.numerics.accumulate.models import Aligned, Promoted, Reordered
from incref.numerics.accumulate.table import MACHINES, MachineRow

__all__ = ["machines", "measured_machines"]

_RESULTS = Path(__file__).parents[2] / "conformance" / "results" / "tensor_cores.json"


def machines() -> str:
    """Formats, parameters, evidence and source of every row."""
    header = [
        "machine",
        "formats",
        "group",
        "bits of terms, of sums",
        "carried",
        "promoted",
        "evidence",
        "source",
        "of what, or what is open",
    ]
    return table(header, map(_row, MACHINES.values()))


def _row(row: MachineRow) -> list[str]:
    inner = row.model.inner if isinstance(row.model, Promoted | Reordered) else row.model
    cells = ["", "", ""]
    if isinstance(inner, Aligned):
        cells = [str(inner.group), f"{inner.fraction_bits}, {inner.result_bits}", inner.carry.value]
    every = f"every {row.model.every}" if isinstance(row.model, Promoted) else ""
    return [code(row.name), ", ".join(map(code, row.formats)), *cells, every, row.evidence.value, row.source, row.note]


def measured_machines() -> str:
    """How often the model that was found for each machine gave its bits, by device."""
    header = ["device", "machine", "instructions", "random results", "equal to the model's", "what the model is"]
    reports = json.loads(_RESULTS.read_text())
    rows = [
        [device, code(name), *_replays(entry)]
        for device, report in reports.items()
        for name, entry in report["machines"].items()
        if entry["model"] is not None
    ]
    return table(header, rows)


def _replays(entry: dict[str, Any]) -> list[str]:
    instructions = ", ".join(code(name) for name in entry.get("instructions", ()))
    counts = [f"{sum(replay[key] for replay in entry['replays']):,}" for key in ("outputs", "equal")]
    model = entry["model"]
    inner = model.get("inner", model)
    if inner["kind"] != "Aligned":
        return [instructions, *counts, inner["kind"]]
    shape = f"groups of {inner['group']}, {inner['fraction_bits']} and {inner['result_bits']} bits, {inner['carry']}"
    return [instructions, *counts, f"{shape}, every {model['every']}" if "every" in model else shape]
