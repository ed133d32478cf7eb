import pytest
import torch

from benchmarks.gptq_peers import CASES, make_layer, quantize_here


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_better_than_nothing(name: str) -> None:
    weight, inputs = make_layer(size=256)
    values = quantize_here(weight, inputs, CASES[name])
    x = torch.cat(inputs)
    assert values.shape == weight.shape
    assert (x @ (values - weight).T).square().sum() < 0.05 * (x @ weight.T).square().sum()
