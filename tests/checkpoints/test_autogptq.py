"""Against the layers of AutoGPTQ itself; `make checkpoints` brings them here."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from incref.checkpoints.gptq import GptqCodec, encode_gptq
from incref.checkpoints.stored import StoredLayer
from incref.formats.layouts import PackLayout

from .weights import draw_weight

SOURCE = Path(__file__).parents[2] / "build/autogptq/auto_gptq/nn_modules/qlinear/qlinear_cuda.py"

pytestmark = pytest.mark.skipif(not SOURCE.is_file(), reason="needs AutoGPTQ unpacked: make checkpoints")


@pytest.fixture(scope="module")
def autogptq() -> ModuleType:
    """The module of its layers, without the package around it, which needs CUDA."""
    spec = importlib.util.spec_from_file_location("autogptq_qlinear_cuda", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, -1])
@pytest.mark.parametrize("ordered", [True, False])
def test_its_layers_multiply_by_our_weight(
    autogptq: ModuleType, bits: int, group_size: int, *, symmetric: bool, ordered: bool
) -> None:
    rows, columns = 64, 128
    weight = draw_weight(rows, columns, bits, group_size, symmetric=symmetric, ordered=ordered)
    tensors, _ = encode_gptq({"fc": StoredLayer(weight=weight)}, PackLayout.GPTQ_V1, None)
    layer = autogptq.QuantLinear(bits, group_size, columns, rows, bias=False, weight_dtype=torch.float16)
    for name in ("qweight", "qzeros", "scales", "g_idx"):
        assert getattr(layer, name).shape == tensors[f"fc.{name}"].shape
        assert getattr(layer, name).dtype is tensors[f"fc.{name}"].dtype
        setattr(layer, name, tensors[f"fc.{name}"])
    # A product with the identity is the weight.
    assert torch.equal(layer(torch.eye(columns, dtype=torch.float16)).T, weight.dequantize())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_we_read_what_its_layers_pack(autogptq: ModuleType, bits: int) -> None:
    rows, columns = 64, 128
    weight = draw_weight(rows, columns, bits, 32, symmetric=False)
    linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight.data = weight.dequantize(torch.float32)
    layer = autogptq.QuantLinear(bits, 32, columns, rows, bias=False, weight_dtype=torch.float16)
    zero = weight.parts.zero_point
    assert zero is not None
    # It rounds the weights to codes anew; they lie on the grid, so that it finds the same.
    layer.pack(linear.half().float(), weight.scale, zero.float())
    parts = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    read = GptqCodec(bits=bits, group_size=32, zeros=PackLayout.GPTQ_V1).decode("fc", parts, (rows, columns)).weight
    # It keeps scales in the dtype of the layer that it packs.
    assert read.dtype is torch.float32
    assert torch.equal(read.dequantize(torch.float16), weight.dequantize())
