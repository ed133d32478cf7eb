import torch
from torch import nn

from incref.config.schemes import SCHEMES
from incref.evaluation.cache import cache_weights
from incref.workflow.convert import convert


def test_results_stay_the_same() -> None:
    model = convert(nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4)), SCHEMES["mxfp4_w4a4"])
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    before = model(x)
    cache_weights(model)
    assert torch.equal(model(x), before)
    assert torch.equal(model(x), before)
    assert [layer.cache_weight for layer in (model[0], model[2])] == [True, True]
