import torch
from torch import nn

from incref.calibration.patched import patched


def test_modules_compute_something_else_for_a_while() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    seen: list[object] = []
    layer.register_forward_hook(lambda _, __, output: seen.append(output))
    before = layer(x)
    with patched({layer: lambda _: "outer"}):
        with patched({layer: lambda _: "inner"}):
            assert layer(x) == "inner"
        assert layer(x) == "outer"
    assert torch.equal(layer(x), before)
    assert seen[1:3] == ["inner", "outer"]
    assert "forward" not in vars(layer)
