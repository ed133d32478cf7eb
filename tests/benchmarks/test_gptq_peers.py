import pytest
import torch

from benchmarks.gptq_peers import CASES, make_layer, quantize_here


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_better_than_nothing(name: str) -> None:
    weight, inputs = make_layer(size=256)
    x = torch.cat(inputs)
    errors = [(x @ (quantize_here(weight, inputs, CASES[name], n) - weight).T).square().sum() for n in (0, 1)]
    assert errors[1] < errors[0] < 0.05 * (x @ weight.T).square().sum()
