import torch
from torch import nn

from incref.calibration.amax import AmaxCollector
from incref.nn.matmul import Matmul


def test_keeps_the_largest_of_all_calls() -> None:
    a, b, unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    collector = AmaxCollector(["a", "b", "unused"])
    collector.attach({"a": a, "b": b, "unused": unused})
    for x in (torch.tensor([[1.0, -3.0, 2.0, 0.0]]), torch.tensor([[2.5, 0.0, 0.0, 0.0]]), torch.zeros(0, 4)):
        b(a(x) * 0 - 0.5)
    collector.detach()
    a(torch.full((1, 4), 100.0))
    assert {name: amax.item() for name, amax in collector.amax.items()} == {"a": 3.0, "b": 0.5}
    assert collector.amax["a"].dtype is torch.float32
    assert collector.amax["a"].shape == ()


def test_nan_beats_all() -> None:
    layer = nn.Linear(2, 2)
    collector = AmaxCollector(["l"])
    collector.attach({"l": layer})
    layer(torch.tensor([[torch.nan, 1.0]]))
    layer(torch.tensor([[torch.inf, 1.0]]))
    assert bool(collector.amax["l"].isnan())


def test_dtypes() -> None:
    layer = nn.Linear(2, 2).to(torch.bfloat16)
    collector = AmaxCollector(["l"])
    collector.attach({"l": layer})
    layer(torch.tensor([[1.5, -2.25]], dtype=torch.bfloat16))
    assert collector.amax["l"].item() == 2.25


def test_channels() -> None:
    layers = {"conv": nn.Conv2d(2, 2, 1), "fc": nn.Linear(3, 1), "product": Matmul(), "unused": nn.Linear(3, 1)}
    collector = AmaxCollector(list(layers), per_channel=True)
    collector.attach(layers)
    layers["conv"](torch.tensor([[[[1.0, -2.0]], [[0.5, 0.25]]]]))
    # Without a batch.
    layers["conv"](torch.tensor([[[0.0]], [[-3.0]]]))
    layers["fc"](torch.tensor([[[1.0, torch.nan, 0.0]]]))
    layers["fc"](torch.tensor([[-2.0, torch.inf, 0.0]]))
    layers["product"](torch.ones(1, 2), torch.ones(2, 1))
    found = {name: values.tolist() for name, values in collector.channels.items()}
    assert found.pop("fc")[::2] == [2, 0]
    assert bool(collector.channels["fc"][1].isnan())
    assert found == {"conv": [2, 3]}
    assert sorted(collector.amax) == ["conv", "fc", "product.x", "product.y"]
