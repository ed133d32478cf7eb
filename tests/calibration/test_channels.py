import torch
from torch import nn

from incref.calibration.channels import ChannelCollector


def test_extremes_of_every_feature_over_all_calls() -> None:
    layer, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    collector = ChannelCollector({"a": layer, "unused": unused})
    layer(torch.tensor([[[1.0, -4.0], [3.0, -1.0]]]))
    layer(torch.zeros(0, 2))
    layer(torch.tensor([-2.0, 5.0]))
    for handle in collector.handles:
        handle.remove()
    layer(torch.tensor([100.0, 100.0]))
    assert list(collector.extremes) == ["a"]
    assert collector.extremes["a"].tolist() == [[-2.0, -4.0], [3.0, 5.0]]
    assert collector.extremes["a"].dtype is torch.float32


def test_nan_beats_all() -> None:
    layer = nn.Linear(2, 2)
    collector = ChannelCollector({"a": layer})
    layer(torch.tensor([[1.0, torch.nan]]))
    layer(torch.tensor([[torch.inf, 1.0]]))
    assert collector.extremes["a"].isnan().tolist() == [[False, True], [False, True]]
