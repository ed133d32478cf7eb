"""How fast the backend "cpu" is, from the runs in benchmarks/results/speed.json."""

import json
from pathlib import Path
from typing import Any

from markdown_cells import table

__all__ = [
    "large_checkpoint",
    "speed_bars",
    "speed_layers",
    "speed_machine",
    "speed_models",
    "speed_products",
    "speed_results",
    "speed_sizes",
]

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_RUNS = _RESULTS / "speed.json"


def speed_bars() -> str:
    """What is asked for, what was found, and what this machine can't show."""
    header = ["work", "beside", "threads", "ratio", "asked for", "hoped for"]
    return table(header, [_bar(row, part["threads"]) for part in _parts().values() for row in part["judged"]])


def _bar(row: dict[str, Any], threads: int) -> list[str]:
    sign = "&le;" if row["better"] == "less" else "&ge;"
    if "reason" in row:
        found = f"not measured: {row['reason']}"
    else:
        ratio = f"{row['ratio']}" if row["is_met"] else f"**{row['ratio']}**"
        found = f"{ratio} ({row['least']} to {row['greatest']})"
    return [row["work"], row["base"], str(threads), found, f"{sign} {row['bar']}", f"{row['stretch']}"]


def speed_results() -> str:
    """Time of every conversion, as a multiple of the time that copying the tensor takes."""
    parts = _parts()
    peers = {
        name: found["ratios"] for name, found in parts.get("peers", {}).get("peers", {}).items() if "ratios" in found
    }
    header = ["", "into memory that is there", "new tensor", "reference", "least traffic", *peers]
    rows = []
    for name, row in parts["conversions"]["rows"].items():
        ratios = row["ratios"]
        own = [_spread(ratios.get("cpu")), _spread(ratios["cpu, new"]), f"{ratios['reference']['ratio']:.0f}"]
        others = [f"{found[name]['copy_']['ratio']:.0f}" if name in found else "" for found in peers.values()]
        rows.append([name, *own, f"{row['floor']}", *others])
    return table(header, rows)


def _spread(one: dict[str, float] | None) -> str:
    return "" if one is None else f"{one['ratio']} ({one['least']} to {one['greatest']})"


def speed_products() -> str:
    """Products with quantized weights by ONNX Runtime and by incref, beside PyTorch's."""
    found = _parts()["onnxruntime"]["products"]
    rows = []
    for work, sides in found["ratios"].items():
        for side, name in (("incref", "incref"), ("peer", f"ONNX Runtime {found['version']}")):
            rows.append([work, name, _spread(sides[side]["bfloat16"]), _spread(sides[side]["float32"])])
    return table(["product", "by", "as fast as bfloat16", "as fast as float32"], rows)


def speed_models() -> str:
    """Compiled models of 8-bit integers by Neural Compressor and by incref, beside float32."""
    found = _parts()["models"]["models"]
    rows = []
    for model, sides in found["models"].items():
        for side, name in (("incref", "incref"), ("peer", f"Neural Compressor {found['version']}")):
            rows.append([model, name, _spread(sides[side]["float32"]), f"{sides[side]['sqnr']}"])
    return table(["model", "by", "as fast as float32, eager", "signal to noise, dB"], rows)


def speed_sizes() -> str:
    """Nanoseconds an element, by the size of the tensor."""
    curve = _parts()["curves"]["size"]
    names = [name for name in curve[0] if name != "elements"]
    rows = [[f"2<sup>{p['elements'].bit_length() - 1}</sup>", *(f"{p[name]:.3g}" for name in names)] for p in curve]
    return table(["elements", *names], rows)


def speed_layers() -> str:
    """Milliseconds of a layer that emulates MXFP8, by its width."""
    rows = [
        [str(p["width"]), f"{p['float32']:.3g}", f"{p['emulated']:.3g}", f"{p['emulated'] / p['float32']:.2f}"]
        for p in _parts()["curves"]["layers"]
    ]
    return table(["width", "float32", "MXFP8", "ratio"], rows)


def speed_machine() -> str:
    """What the speed was measured with."""
    runs = _runs()
    made = runs[-1]["environment"]
    peers = _parts().get("peers", {}).get("peers", {})
    versions = [f"{name} {found['version']}" for name, found in peers.items() if "version" in found]
    has = ", ".join(runs[-1]["setting"].get("instructions", []))
    processor = f"{made['processor']} ({has})" if has else made["processor"]
    where = f"{processor}, {made['cores']} cores; PyTorch {made['torch']}"
    return f"{'; '.join([where, ', '.join(versions)] if versions else [where])}; {runs[-1]['date']}."


def large_checkpoint() -> str:
    """What memory a checkpoint took that is larger than that."""
    found = json.loads((_RESULTS / "large_checkpoint.json").read_text())
    names = {
        "checkpoint": "checkpoint_bytes",
        "result": "quantized_bytes",
        "peak of memory that no file backs": "anonymous_peak_bytes",
        "peak with pages of files": "resident_peak_bytes",
    }
    return table(["", "GB"], [[name, f"{found[key] / 1e9:.2f}"] for name, key in names.items()])


def _parts() -> dict[str, Any]:
    """Every part as the last run that has it found it."""
    found: dict[str, Any] = {}
    for run in _runs():
        found |= {name: {**part, "threads": run["setting"]["threads"]} for name, part in run["parts"].items()}
    return found


def _runs() -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(_RUNS.read_text())["runs"]
    return runs
