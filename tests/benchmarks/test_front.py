from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.front import pareto_front, plot_front
from incref.checkpoints.size import ModelSize
from incref.evaluation.result import Evaluation

BASE = Evaluation(
    scheme="float32",
    nll=(2.0, 2.0),
    size=ModelSize(weight_elements=0, weight_bytes=0, elements=100, bytes=400),
    file_bytes=4_000_000,
    quantize_seconds=0.0,
    eval_seconds=1.0,
)


def row(scheme: str, size: int, nll: float) -> Evaluation:
    return replace(BASE, scheme=scheme, file_bytes=size, nll=(nll, nll))


def test_front_leaves_out_what_is_beaten() -> None:
    small, beaten, large = row("mxfp4", 1, 3.0), row("mxfp6_e3m2", 2, 3.5), row("int8", 3, 2.5)
    equal_size_worse = row("fp8_e5m2", 3, 2.75)
    assert pareto_front([large, equal_size_worse, beaten, small]) == [small, large]


def test_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [BASE, row("mxfp4", 1_000_000, 3.0), row("mxfp4_w4a4", 1_000_000, 3.5), row("int8", 2_000_000, 2.1)]
    plot_front(rows, tmp_path / "front.png", title="title")
    assert (tmp_path / "front.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
