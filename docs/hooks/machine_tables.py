"""The rows of `incref.numerics.accumulate.table.MACHINES` as a table."""

from markdown_cells import code, table

from incref.numerics.accumulate.models import Aligned, Promoted
from incref.numerics.accumulate.table import MACHINES, MachineRow

__all__ = ["machines"]


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
    inner = row.model.inner if isinstance(row.model, Promoted) else row.model
    cells = ["", "", ""]
    if isinstance(inner, Aligned):
        cells = [str(inner.group), f"{inner.fraction_bits}, {inner.result_bits}", inner.carry.value]
    every = f"every {row.model.every}" if isinstance(row.model, Promoted) else ""
    return [code(row.name), ", ".join(map(code, row.formats)), *cells, every, row.evidence.value, row.source, row.note]
