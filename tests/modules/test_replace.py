import torch
from torch import nn

from incref.config.schemes import SCHEMES
from incref.modules.linear import QuantLinear
from incref.modules.replace import disable_fast_paths, find_holders, replace_layer
from incref.qtensor.qtensor import QTensor


def quantized(layer: nn.Linear, name: str = "mxfp4_w4a4") -> QuantLinear:
    qweight = QTensor.quantize(layer.weight.detach(), SCHEMES[name].weight)
    return QuantLinear(qweight, layer.bias, SCHEMES[name].activation)


def test_a_shared_layer_is_replaced_under_all_its_names() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.ReLU(), shared)})
    holders = find_holders(model)
    assert len(holders[shared]) == 3
    new = nn.Identity()
    replace_layer(holders, shared, new)
    assert [name for name, m in model.named_modules(remove_duplicate=False) if m is new] == ["a", "b.0", "b.2"]
    assert shared not in holders


def test_encoder_calls_its_quantized_layers() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).eval()
    layers = [m for m in encoder.layers if isinstance(m, nn.TransformerEncoderLayer)]
    for layer in layers:
        layer.linear1 = quantized(layer.linear1)
    disable_fast_paths(encoder)
    seen: list[int] = []
    for layer in layers:
        layer.linear1.activation = None
        layer.linear1.forward = lambda x, forward=layer.linear1.forward: (seen.append(1), forward(x))[1]
    with torch.no_grad():
        encoder(torch.randn(2, 5, 32), src_key_padding_mask=torch.tensor([[False] * 5, [False] * 3 + [True] * 2]))
    assert len(seen) == 2


def test_an_encoder_without_quantized_layers_keeps_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1)
    disable_fast_paths(encoder)
    assert encoder.use_nested_tensor
    assert layer.activation_relu_or_gelu == 1
