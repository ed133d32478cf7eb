"""What the comparisons of `conformance` with the oracle found, from the files in conformance/results."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_cells import code, table

from conformance.faults.table import FAULTS
from conformance.known_differences import KNOWN_DIFFERENCES

__all__ = [
    "conformance_block_kinds",
    "conformance_blocks",
    "conformance_devices",
    "conformance_hpu",
    "conformance_levels",
    "conformance_runs",
    "conformance_scales",
    "conformance_sweeps",
    "conformance_triton",
    "fault_score",
    "identified_peers",
    "planted_faults",
    "witness_differences",
]

_RESULTS = Path(__file__).parents[2] / "conformance" / "results"


def conformance_sweeps() -> str:
    """Every float32 pattern through `encode`."""
    header = ["format", "options", "patterns compared", "mismatches"]
    return table(header, [_patterns(key, result) for key, result in _load("sweep").items()])


def fault_score() -> str:
    """How many planted faults the suite finds, by operation."""
    found = _load("faults")
    levels = range(len(found["killed"]))
    header = [
        "operation",
        "faults planted",
        *(f"found at level {level}" for level in levels),
        "right controls",
        "alarms",
    ]
    rows = [
        [code(op), f"{row['planted']}", *(f"{killed}" for killed in row["killed"]), f"{row['controls']}", ""]
        for op, row in found["by_op"].items()
    ]
    total = ["all", f"{found['planted']}", *(f"{killed}" for killed in found["killed"])]
    rows.append([*total, f"{found['controls']}, {found['seeds']} seeds each", f"{len(found['alarms'])}"])
    survivors = ", ".join(map(code, found["survivors"])) or "none"
    return f"{table(header, rows)}\n\nNot found at level {levels[-1]}: {survivors}."


def planted_faults() -> str:
    """Every planted fault, its story and the public bug that it is modelled on."""
    return table(["fault", "what is wrong", "modelled on"], [[code(one.name), one.story, one.source] for one in FAULTS])


def conformance_hpu() -> str:
    """The casts of Gaudi on every bfloat16 number and every code, and the suite on its kernels."""
    header = ["chip", "operators", "results compared", "mismatches", "cases of the suite that passed", "failed"]
    rows = [
        [
            code(chip),
            row["operators"],
            f"{row['compared']:,}",
            f"{row['mismatches']}",
            f"{row['contracts']['pass']}",
            f"{row['contracts']['fail'] + row['contracts']['error']}",
        ]
        for chip, row in _load("hpu").items()
    ]
    return table(header, rows)


def identified_peers() -> str:
    """What other libraries implement, as `conformance.identify_peers` found it."""
    rows = [[code(name), _finding(found), _unexplained(found)] for name, found in _load("identify").items()]
    return table(["what", "implements", "not explained by it"], rows)


def _finding(found: Mapping[str, Any]) -> str:
    if "options" in found:
        said = [
            f"{option} {value}" + "".join(f" or {other}" for other in found["undecided"].get(option, ()))
            for option, value in found["options"].items()
        ]
        presets = [f"preset {code(name)}" for name in found["presets"]]
        return "; ".join([*said, *presets])
    orders = found["unexplained by order"]
    return "; ".join(f"scales {order}: {count:,} of {found['compared']:,} differ" for order, count in orders.items())


def _unexplained(found: Mapping[str, Any]) -> str:
    if found.get("unexplained"):
        return f"{found['unexplained']:,} of {found['compared']:,}; {found['first']}"
    return found.get("first", "") if "unexplained by order" in found else ""


def conformance_devices() -> str:
    """Every operation on other devices."""
    rows = [
        [name, f"PyTorch {result['torch']}", f"{result['calls']:,}", f"{result['differing']:,}"]
        for name, result in _load("devices").items()
    ]
    return table(["device", "with", "calls compared", "calls with differences"], rows)


_SECTIONS = {
    "sweep": "`encode` of every float32 pattern: each format, rounding and overflow mode",
    "options": "`encode` of every float32 pattern: the other NaN rules of formats without NaN, restricted integers",
    "scales": "scale rules, every float32 magnitude, through `quantize_mx`",
    "computed": "`compute_scale` of every float32, bfloat16 and float16 pattern: each rule",
    "narrow": "`encode` of every bfloat16 and float16 pattern, stochastic rounding included",
    "decode": "`decode` of every code",
    "blocks": "`quantize_mx` and back, blocks of every kind",
    "scaled": "`quantize_float`, `quantize_affine`, `compute_scale` and back",
    "int8_matmul": "`int8_matmul`: every bit",
    "fp8_matmul": "`fp8_matmul`: probes, and the bound of the declared accumulator",
    "weight_only_matmul": "`weight_only_matmul`: probes, and the bound of the declared accumulator",
    "mx_matmul": "`mx_matmul`: probes, and the bound of the declared accumulator",
    "grouped": "products of experts: probes, and what each expert gives alone, or the bound",
}


def conformance_triton() -> str:
    """What the Triton kernels gave on GPUs, and compiled for the CPU."""
    rows = [
        [device, _SECTIONS[name], _done(found), f"{found['checked']:,}", f"{found['wrong']:,}"]
        for device, result in _load("triton").items()
        for name, found in result["sections"].items()
    ]
    return table(["device", "what", "cases", "values compared", "wrong"], rows)


def _done(found: Mapping[str, Any]) -> str:
    """How many cases there were, and of how many if a run was cut short."""
    done = found["cases"] - found.get("skipped", 0)
    return f"{done:,}" if done == found.get("of", done) else f"{done:,} of {found['of']:,}"


def conformance_scales() -> str:
    """Every float32 magnitude through the rules for scales."""
    header = ["format of the elements", "rule", "patterns compared", "mismatches"]
    return table(header, [_patterns(key, result) for key, result in _load("scales").items()])


def _patterns(key: str, result: Mapping[str, Any]) -> list[str]:
    name, _, options = key.partition("/")
    return [code(name), options.replace("/", ", "), f"{result['patterns']:,}", f"{result['mismatches']:,}"]


def conformance_runs() -> str:
    """Whole levels of the suite, operation by operation, and the time that they took."""
    header = ["implementation, judge, level", "operation", "cases passed", "not supported", "failed", "processor time"]
    rows = []
    for key, found in _load("runs").items():
        kind, _, op = key.rpartition("/")
        shown = [f"{count:,}" for count in _judged(found)]
        rows.append([kind.replace("/", ", "), code(op), *shown, f"{found['processor_seconds']:.0f} s"])
    return table(header, rows)


def conformance_levels() -> str:
    """The same, all operations of a level together, with what a first run took that had to compile kernels."""
    levels: dict[str, list[dict[str, Any]]] = {}
    for key, found in _load("runs").items():
        levels.setdefault(key.rpartition("/")[0], []).append(found)
    header = ["implementation, judge, level", "operations", "cases passed", "failed", "processor time", "a first run"]
    rows = []
    for kind, all_found in levels.items():
        passed, _, bad = map(sum, zip(*map(_judged, all_found), strict=True))
        busy = sum(found["processor_seconds"] for found in all_found)
        first = sum(found.get("first_processor_seconds", 0) for found in all_found)
        shown = [f"{len(all_found)}", f"{passed:,}", f"{bad:,}", f"{busy:.0f} s", f"{first:.0f} s" if first else ""]
        rows.append([kind.replace("/", ", "), *shown])
    return table(header, rows)


def _judged(found: dict[str, Any]) -> tuple[int, int, int]:
    """How many cases passed, were not supported, and failed."""
    counts = found["counts"]
    bad = sum(counts.get(status, 0) for status in ("fail", "error", "xpass"))
    return counts.get("pass", 0), counts.get("not_supported", 0), bad


def conformance_blocks() -> str:
    """Blocks of every kind through `quantize_mx`, by format and rule."""
    totals = [(key, result["blocks"], result["bad"]) for key, result in _load("blocks").items()]
    rows = [[code(key), f"{sum(blocks.values()):,}", f"{sum(bad.values()):,}"] for key, blocks, bad in totals]
    return table(["format and rule", "blocks compared", "bad blocks"], rows)


def conformance_block_kinds() -> str:
    """The same blocks, by kind."""
    blocks, bad = Counter[str](), Counter[str]()
    for result in _load("blocks").values():
        blocks.update(result["blocks"])
        bad.update(result["bad"])
    rows = [[kind, f"{count:,}", f"{bad[kind]:,}"] for kind, count in blocks.items()]
    return table(["kind of block", "blocks compared", "bad blocks"], rows)


def witness_differences() -> str:
    """Where other libraries give other codes."""
    rows = [
        [row.witness, ", ".join(map(code, row.formats)), row.inputs, row.theirs, row.cause] for row in KNOWN_DIFFERENCES
    ]
    return table(["library", "formats", "inputs", "its result", "cause"], rows)


def _load(kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((_RESULTS / f"{kind}.json").read_text())
    return found
