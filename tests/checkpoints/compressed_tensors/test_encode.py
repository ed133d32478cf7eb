import pytest
import torch

from incref.checkpoints.compressed_tensors.decode import CompressedTensorsCodec
from incref.checkpoints.compressed_tensors.encode import encode_compressed_tensors
from incref.checkpoints.stored import StoredLayer
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats import FORMATS
from incref.numerics.granularity import per_group
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

from ..weights import draw_weight


def test_layers_that_are_alike_are_one_group() -> None:
    layers = {name: StoredLayer(weight=draw_weight(8, 64, 4, 32)) for name in ("a", "b")}
    _, config = encode_compressed_tensors(layers, ["lm_head"], None)
    assert config == {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 4,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group",
                    "group_size": 32,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
                "format": "pack-quantized",
            }
        },
        "ignore": ["lm_head"],
    }


def test_layers_that_differ_are_named() -> None:
    weights = {
        "a": draw_weight(8, 64, 4, 32),
        "b": QTensor.quantize(torch.randn(8, 64), SCHEMES["mxfp4"].weight),
        "c": draw_weight(8, 64, 4, 32),
    }
    tensors, config = encode_compressed_tensors({n: StoredLayer(weight=w) for n, w in weights.items()}, [], None)
    assert config["format"] == "mixed-precision"
    groups = config["config_groups"]
    assert isinstance(groups, dict)
    assert [group["targets"] for group in groups.values() if isinstance(group, dict)] == [["a", "c"], ["b"]]
    codec = CompressedTensorsCodec.parse(config)
    for name, weight in weights.items():
        parts = {key.removeprefix(f"{name}."): part for key, part in tensors.items() if key.startswith(f"{name}.")}
        read = codec.decode(name, parts, (8, 64)).weight
        assert torch.equal(read.dequantize(torch.float32), weight.dequantize(torch.float32))


def test_a_static_scale_of_the_input_is_stored() -> None:
    e4m3 = QuantSpec(fmt=FORMATS["float8_e4m3fn"])
    weight = QTensor.quantize(torch.randn(8, 64), e4m3)
    layer = StoredLayer(weight=weight, activation=e4m3, input_scale=torch.tensor(0.3))
    tensors, config = encode_compressed_tensors({"fc": layer}, [], None)
    parts = {name.removeprefix("fc."): part for name, part in tensors.items()}
    assert parts["input_scale"].shape == (1,)
    read = CompressedTensorsCodec.parse(config).decode("fc", parts, (8, 64))
    assert read.activation == e4m3
    assert read.input_scale is not None
    assert torch.equal(read.input_scale, torch.tensor(0.3))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (draw_weight(8, 64, 4, 32, ordered=True), "fc: compressed-tensors has groups of neighbouring columns only"),
        (draw_weight(8, 48, 4, 32), "fc: groups of 32 must divide the 48 input features in this layout"),
        (QTensor.quantize(torch.randn(8, 48), SCHEMES["mxfp4"].weight), "mxfp4 needs input features in blocks of 32"),
        (QTensor.quantize(torch.randn(8, 64), SCHEMES["mxint8"].weight), "compressed-tensors has no mxint8"),
        (QTensor.quantize(torch.randn(8, 64), SCHEMES["fp8_e5m2"].weight), "compressed-tensors has no float8_e5m2"),
        (QTensor.quantize(torch.randn(8, 64), QuantSpec(fmt=FORMATS["nf4"])), "compressed-tensors has no nf4"),
        (
            QTensor.quantize(torch.randn(8, 48), QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=per_group(32))),
            "groups of 32 must divide the 48 input features",
        ),
        (QTensor.quantize(torch.randn(32, 64), QuantSpec(fmt=FORMATS["mxfp4"], axis=0)), "blocks must lie along K"),
    ],
)
def test_weights_that_the_library_has_no_words_for_are_refused(weight: QTensor, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        encode_compressed_tensors({"fc": StoredLayer(weight=weight)}, [], None)


def test_inputs_that_the_library_has_no_words_for_are_refused() -> None:
    scheme = SCHEMES["mxint8_w8a8"]
    layer = StoredLayer(weight=draw_weight(8, 64, 4, 32), activation=scheme.activation)
    with pytest.raises(CheckpointError, match="fc: compressed-tensors has no words for how its input is quantized"):
        encode_compressed_tensors({"fc": layer}, [], None)


def test_a_model_without_quantized_layers_is_refused() -> None:
    with pytest.raises(CheckpointError, match="needs a quantized layer, and the model has none"):
        encode_compressed_tensors({}, [], None)
