import pytest
import torch

from incref.checkpoints.awq import AwqCodec
from incref.checkpoints.compressed_tensors.decode import CompressedTensorsCodec
from incref.checkpoints.foreign import CheckpointLayout, encode_layers, find_codec
from incref.checkpoints.gptq import GptqCodec
from incref.checkpoints.stored import Codec, StoredLayer
from incref.errors import CheckpointError
from incref.formats.layouts import PackLayout
from incref.qtensor.format_json import Json

from .weights import draw_weight


@pytest.mark.parametrize(
    ("layout", "codec"),
    [
        (CheckpointLayout.GPTQ_V1, GptqCodec(bits=4, group_size=32, zeros=PackLayout.GPTQ_V1)),
        (CheckpointLayout.GPTQ_V2, GptqCodec(bits=4, group_size=32, zeros=PackLayout.GPTQ_V2)),
        (CheckpointLayout.AWQ, AwqCodec(group_size=32)),
        (CheckpointLayout.COMPRESSED_TENSORS, None),
    ],
)
def test_what_a_layout_writes_its_codec_reads(layout: CheckpointLayout, codec: Codec | None) -> None:
    weight = draw_weight(32, 64, 4, 32, symmetric=False)
    tensors, config = encode_layers({"a.fc": StoredLayer(weight=weight)}, ["lm_head"], layout)
    found = find_codec(config)
    assert found == codec or (codec is None and isinstance(found, CompressedTensorsCodec))
    assert found.layers(tensors) == ["a.fc"]
    parts = {name.removeprefix("a.fc."): tensor for name, tensor in tensors.items()}
    assert torch.equal(found.decode("a.fc", parts, (32, 64)).weight.dequantize(), weight.dequantize())


def test_a_configuration_without_a_method_is_that_of_autogptq() -> None:
    assert find_codec({"bits": 4, "group_size": 32}) == GptqCodec(bits=4, group_size=32, zeros=PackLayout.GPTQ_V1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "quantization_config must be an object, got None"),
        ("gptq", "quantization_config must be an object, got 'gptq'"),
        ({}, "quant_method must be gptq, awq or compressed-tensors, got None"),
        ({"quant_method": "bitsandbytes"}, "got 'bitsandbytes'"),
        ({"quant_method": ["gptq"]}, r"got \['gptq'\]"),
    ],
)
def test_configurations_of_others_are_refused(config: Json, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        find_codec(config)
