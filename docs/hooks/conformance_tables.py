"""What the exhaustive comparisons of `conformance` found, from the files in conformance/results."""

import json
from collections import defaultdict
from pathlib import Path

from markdown_cells import code, table

__all__ = ["conformance_scales", "conformance_sweeps"]

_RESULTS = Path(__file__).parents[2] / "conformance" / "results"


def conformance_sweeps() -> str:
    """Every float32 pattern through `encode`: a line for each format."""
    return _summary("sweep", "format")


def conformance_scales() -> str:
    """Every float32 magnitude through the rules for scales: a line for each format."""
    return _summary("scales", "format")


def _summary(kind: str, subject: str) -> str:
    """Add up the results of `kind` by the first part of their key, the rest of which names options."""
    groups: defaultdict[str, list[dict[str, int]]] = defaultdict(list)
    for key, result in json.loads((_RESULTS / f"{kind}.json").read_text()).items():
        groups[key.partition("/")[0]].append(result)
    rows = [
        [code(name), str(len(found)), *(f"{sum(r[total] for r in found):,}" for total in ("patterns", "mismatches"))]
        for name, found in groups.items()
    ]
    return table([subject, "combinations of options", "patterns compared", "mismatches"], rows)
