"""Capturing graphs, with torch alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import incref
from incref.errors import UnsupportedError
from incref.export import export
from incref.export.capture import copy_graph
from incref.modules.stage import Stage, stage_of


class Branching(nn.Module):
    """Looks into the file system in its forward, which the strict capture can't follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 if Path.cwd().is_dir() else 3)


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_the_graph_computes_what_the_model_does() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    graph = export(model, (x,))
    assert stage_of(graph) is Stage.EXPORTED
    assert stage_of(copy_graph(graph)) is Stage.EXPORTED
    assert stage_of(model) is None
    assert torch.equal(graph(x), model(x))
    assert torch.equal(copy_graph(graph)(x), model(x))
    assert incref.export.export is export


def test_dimensions_may_differ() -> None:
    model = nn.Linear(4, 3)
    graph = export(model, (torch.randn(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    x = torch.randn(7, 4)
    assert torch.allclose(graph(x), model(x))


def test_what_cant_be_followed_is_run() -> None:
    assert stage_of(export(Branching(), (torch.ones(2),))) is Stage.EXPORTED


def test_errors_say_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"example_inputs is a tuple .*, got Tensor; for a single one write \(x,\)"):
        export(nn.Linear(2, 2), torch.ones(2))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UnsupportedError, match=r"(?s)Deciding can't be captured; .*strictly: .*by running it: "):
        export(Deciding(), (torch.ones(2),))
