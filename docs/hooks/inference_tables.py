"""How fast layers and a language model are on the processor, and GPTQ beside other libraries."""

import json
from pathlib import Path
from typing import Any

from markdown_cells import table

__all__ = ["cpu_generation", "cpu_products", "gptq_model", "gptq_speed", "inference_machine"]

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def cpu_products() -> str:
    """How many times as fast as PyTorch's product in bfloat16, and in float32, a layer is."""
    layers = _inference()["layers"]
    header = ["weight, activations", *(f"{one['rows']} x {one['K']} x {one['N']}" for one in layers)]
    names = layers[0]["times"]
    return table(header, [[name, *(_factors(one["times"].get(name)) for one in layers)] for name in names])


def _factors(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{one['times as fast as bfloat16']:.2f}, {one['times as fast as float32']:.2f}"


def cpu_generation() -> str:
    """Tokens a second of a language model, and what it says."""
    rows = [
        [name, f"{one['tokens per second']:.1f}", " ".join(one["text"].split())]
        for name, one in _inference()["generation"].items()
    ]
    return table(["weights, activations", "tokens a second", "text"], rows)


def inference_machine() -> str:
    """What it was measured with, and what that machine can't show."""
    made = _inference()["environment"]
    lacks = "; ".join(reason for reason in made["processor lacks"].values() if reason)
    where = f"{made['processor']}, {made['cores']} cores; PyTorch {made['torch']}."
    return f"{where} Of this processor: {lacks}." if lacks else where


def gptq_speed() -> str:
    """Seconds that GPTQ of a layer takes, and incref's share of that."""
    return _gptq("gptq_speed.json", {"incref": "incref's time as a share"})


def gptq_model() -> str:
    """Seconds that GPTQ of a model takes, and incref's share of that."""
    return _gptq("gptq_model.json", {"incref": "incref's time as a share", "incref, one pass": "that of one pass"})


def _gptq(file: str, shares: dict[str, str]) -> str:
    found = json.loads((_RESULTS / file).read_text())["libraries"]
    shares = {name: title for name, title in shares.items() if name in found}
    rows = [
        [
            name,
            row["version"],
            f"{row['seconds']:.2f} ({row['least']:.2f} to {row['greatest']:.2f})",
            *(f"{row[share]:.2f}" for share in shares),
            "" if row["error"] is None else f"{row['error']:.6f}",
        ]
        for name, row in found.items()
        if "seconds" in row
    ]
    return table(["library", "version", "seconds", *shares.values(), "error of the output"], rows)


def _inference() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_RESULTS / "inference.json").read_text())
    return found
