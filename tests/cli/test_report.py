import json
from dataclasses import replace

import torch
from rich.console import Console

from incref.checkpoints.size import ModelSize
from incref.cli.report import as_json, as_table
from incref.evaluation.result import Evaluation

BASE = Evaluation(
    scheme="float32",
    nll=(1.0, 3.0),
    size=ModelSize(weight_elements=0, weight_bytes=0, elements=100, bytes=400),
    file_bytes=2_000_000,
    quantize_seconds=0.0,
    eval_seconds=1.5,
)
WORSE = replace(
    BASE,
    scheme="int8",
    nll=(1.5, 3.5),
    size=ModelSize(weight_elements=80, weight_bytes=90, elements=100, bytes=170),
    file_bytes=1_000_000,
)


def test_table_has_true_sizes_and_losses() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(as_table([BASE, WORSE]))
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in capture.get().splitlines() if "│" in line]
    assert cells == [
        ["float32", "32.000", "32.00", "2.0", "7.389", "", "", "1.5"],
        ["int8", "9.000", "13.60", "1.0", "12.182", "1.6487", "+0.5000 ± 0.0000", "1.5"],
    ]


def test_json_has_no_nan() -> None:
    single = replace(BASE, nll=(float("nan"),))
    described = as_json([single], model="m", text="t", tokens=torch.zeros(1, 4, dtype=torch.int64))
    row = json.loads(json.dumps(described, allow_nan=False))["rows"][0]
    assert row["perplexity"] is row["delta_nll_standard_error"] is None
    assert row["nll"] == [None]
    assert row["bits_per_weight"] == 32.0
