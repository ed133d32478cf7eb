import pytest
import torch
from torch import nn

from incref.modules.cast import CAST, cast_layer

LAYERS = [
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(6, 4, bias=False), (6,)),
    (nn.Conv1d(2, 4, 3, padding=1), (1, 2, 8)),
    (nn.Conv2d(4, 4, 3, stride=2, groups=2, padding_mode="reflect", padding=1), (2, 4, 8, 8)),
    (nn.Conv3d(1, 2, 2, dilation=2), (1, 1, 4, 4, 4)),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_it_computes_what_the_layer_does_in_that_dtype(
    layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape)
    made = cast_layer(layer, dtype)
    assert type(made) in CAST.values()
    y = made(x)
    assert y.dtype is torch.float32
    expected = type(layer).forward(made, x.to(dtype))  # type: ignore[operator]
    assert torch.equal(y, expected.float())
    parameters = dict(made.named_parameters())
    assert list(parameters) == [name for name, _ in layer.named_parameters()]
    assert all(torch.equal(parameters[name], p.to(dtype)) for name, p in layer.named_parameters())
    assert next(layer.parameters()).dtype is torch.float32


def test_a_cast_of_the_model_leaves_it_alone() -> None:
    model = nn.Sequential(cast_layer(nn.Linear(4, 4), torch.float16), nn.Linear(4, 4)).double()
    assert [p.dtype for p in model.parameters()] == [torch.float16, torch.float16, torch.float64, torch.float64]
    assert model(torch.ones(4, dtype=torch.float64)).dtype is torch.float64
    assert all(p.is_meta for p in model.to("meta").parameters())


def test_a_weight_beyond_the_range_is_refused() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data[0, 0] = 65520.0
    assert cast_layer(layer, torch.bfloat16).weight[0, 0] == 65536.0
    with pytest.raises(ValueError, match=r"its weight has magnitudes up to 65520, and torch\.float16 ends at 65504"):
        cast_layer(layer, torch.float16)
