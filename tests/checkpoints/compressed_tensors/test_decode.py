import pytest
import torch
from torch import Tensor

from incref.checkpoints.compressed_tensors.decode import CompressedTensorsCodec
from incref.checkpoints.compressed_tensors.encode import encode_compressed_tensors
from incref.checkpoints.stored import StoredLayer
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats.layouts import PackLayout
from incref.ops.pack import pack
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

from ..weights import draw_weight, stream


def encode(weight: QTensor) -> tuple[dict[str, Tensor], CompressedTensorsCodec]:
    tensors, config = encode_compressed_tensors({"fc": StoredLayer(weight=weight)}, [], None)
    return {name.removeprefix("fc."): part for name, part in tensors.items()}, CompressedTensorsCodec.parse(config)


def config(weights: dict[str, Json], storage: str = "pack-quantized", **group: Json) -> dict[str, Json]:
    targets: list[Json] = ["Linear"]
    return {"format": storage, "config_groups": {"group_0": {"targets": targets, "weights": weights, **group}}}


INT4: dict[str, Json] = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_integers_lie_in_a_stream_of_bits(bits: int, *, symmetric: bool) -> None:
    weight = draw_weight(9, 64, bits, 32, symmetric=symmetric)
    parts, codec = encode(weight)
    codes = torch.tensor([stream(row, bits, 64) for row in parts["weight_packed"]])
    zeros = torch.full((9, 2), 1 << (bits - 1))
    if not symmetric:
        zeros = torch.tensor([stream(column, bits, 9) for column in parts["weight_zero_point"].T]).T
    difference = codes - zeros.repeat_interleave(32, 1)
    values = difference.half() * parts["weight_scale"].repeat_interleave(32, 1)
    assert torch.equal(values, weight.dequantize())
    assert torch.equal(codec.decode("fc", parts, (9, 64)).weight.dequantize(), values)


def test_files_of_older_versions_leave_bits_of_words_unused() -> None:
    weight = draw_weight(9, 64, 3, 32)
    parts, codec = encode(weight)
    codes = (weight.codes.int() + 4).to(torch.uint8)
    parts["weight_packed"] = pack(codes, "uint3", layout=PackLayout.INT32)
    assert parts["weight_packed"].shape == (9, 7)
    assert torch.equal(codec.decode("fc", parts, (9, 64)).weight.dequantize(), weight.dequantize())


def test_groups_of_columns_in_an_order_of_their_own() -> None:
    weight = draw_weight(9, 64, 4, 32)
    parts, codec = encode(weight)
    g_idx = torch.arange(64, dtype=torch.int32) % 2
    read = codec.decode("fc", parts | {"weight_g_idx": g_idx}, (9, 64)).weight
    assert torch.equal(read.dequantize(torch.float32), weight.codes * weight.scale[:, g_idx.long()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_packed": None}, "fc: weight_packed must be torch.int32 .* and there is none"),
        ({"weight_scale": None}, "fc: weight_scale must be .* and there is none"),
        ({"weight_shape": None}, "fc: weight_shape must be .* and there is none"),
        ({"weight_shape": torch.tensor([9, 63])}, r"weight_shape must be that of the model's layer, \(9, 64\), got"),
        ({"weight_packed": torch.zeros(9, 9, dtype=torch.int32)}, r"must be .* of shape \(9, 8\), got .* \(9, 9\)"),
        ({"weight_packed": torch.zeros(9, 8)}, "must be torch.int32 .*, got torch.float32"),
        ({"weight_scale": torch.full((9, 2), torch.nan)}, "fc: scales must be finite"),
        ({"weight_zero_point": None}, "fc: weight_zero_point must be torch.int32 .* and there is none"),
        ({"weight_global_scale": torch.ones(1)}, "fc: a layer stored so has no weight_global_scale"),
        ({"weight_g_idx": torch.zeros(64, dtype=torch.int32)}, "g_idx must put 32 of the 64 columns into every"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Tensor | None], message: str) -> None:
    parts, codec = encode(draw_weight(9, 64, 4, 32, symmetric=False))
    given = {name: part for name, part in {**parts, **changes}.items() if part is not None}
    with pytest.raises(CheckpointError, match=message):
        codec.decode("fc", given, (9, 64))


@pytest.mark.parametrize(
    ("scheme", "changes", "message"),
    [
        ("mxfp4", {"weight_packed": torch.zeros(8, 32, dtype=torch.int8)}, "must be torch.uint8"),
        ("mxfp4", {"weight_scale": torch.zeros(8, 3, dtype=torch.uint8)}, r"of shape \(8, 2\), got .* \(8, 3\)"),
        ("mxfp8_e4m3", {"weight": torch.zeros(8, 64)}, "weight must be torch.float8_e4m3fn"),
        ("nvfp4", {"weight_global_scale": None}, "weight_global_scale must be torch.float32 .* and there is none"),
        ("nvfp4", {"weight_global_scale": torch.zeros(1)}, "must be positive and finite, got 0.0"),
        ("nvfp4", {"weight_global_scale": torch.full((1,), torch.nan)}, "must be positive and finite, got nan"),
        ("nvfp4", {"weight_scale": torch.zeros(8, 4, dtype=torch.uint8)}, "weight_scale must be torch.float8_e4m3fn"),
        ("fp8_e4m3", {"weight": torch.zeros(8, 64, dtype=torch.float8_e5m2)}, "weight must be torch.float8_e4m3fn"),
        ("fp8_e4m3", {"weight_scale": torch.ones(8)}, r"of shape \(8, 1\), got .* \(8,\)"),
        ("fp8_e4m3", {"extra": torch.ones(8)}, "a layer stored so has no extra"),
    ],
)
def test_parts_of_floats_that_do_not_fit_are_refused(
    scheme: str, changes: dict[str, Tensor | None], message: str
) -> None:
    weight = QTensor.quantize(torch.randn(8, 64), SCHEMES[scheme].weight)
    parts, codec = encode(weight)
    given = {name: part for name, part in {**parts, **changes}.items() if part is not None}
    with pytest.raises(CheckpointError, match=message):
        codec.decode("fc", given, (8, 64))


def test_blocks_and_groups_divide_the_input_features() -> None:
    parts, codec = encode(QTensor.quantize(torch.randn(8, 64), SCHEMES["mxfp4"].weight))
    with pytest.raises(CheckpointError, match="mxfp4 needs input features in blocks of 32, got 48"):
        codec.decode("fc", parts, (8, 48))
    parts, codec = encode(draw_weight(8, 64, 4, 32))
    with pytest.raises(CheckpointError, match="weight_shape must be"):
        codec.decode("fc", parts, (8, 48))
    parts["weight_shape"] = torch.tensor([8, 48])
    with pytest.raises(CheckpointError, match="groups of 32 must divide the 48 input features"):
        codec.decode("fc", parts, (8, 48))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, "config_groups must be an object, got None"),
        ({"config_groups": {"W4A16": ["Linear"]}}, "W4A16 must say how weights are quantized"),
        (config({**INT4, "num_bits": 9}), "num_bits must be one of 2, 3, 4, 5, 6, 7, 8, got 9"),
        (config({**INT4, "type": "float"}), "pack-quantized is for type int, got 'float'"),
        (config(INT4, "marlin-24"), "the format must be one of pack-quantized, .*, got 'marlin-24'"),
        (config(INT4, "int-quantized"), "int-quantized is for int and float of 8 bits, got 'int' of 4"),
        (
            config({**INT4, "type": "float"}, "nvfp4-pack-quantized"),
            r"needs \('float', 4, 16\), got \('float', 4, 32\)",
        ),
        (config(INT4, output_activations={"num_bits": 8}), "quantizes outputs, which is not supported"),
        (config(INT4, input_activations=[1]), "input_activations of group_0 must be an object"),
        (config(INT4, targets="Linear"), "targets of group_0 must be names, got 'Linear'"),
        (config(INT4, targets=["re:("]), "a target of group_0 is no expression"),
        (config(INT4) | {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme is not supported"),
        (config(INT4) | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config is not supported"),
        (config(INT4) | {"transform_config": {"x": {}}}, "transform_config is not supported"),
    ],
)
def test_configurations_that_are_not_known_are_refused(described: dict[str, Json], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        CompressedTensorsCodec.parse(described)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({**INT4, "strategy": "token"}, "weights can't have the strategy 'token'"),
        ({**INT4, "strategy": "block", "block_structure": [16]}, r"the strategy 'block' with \[16\]"),
        ({**INT4, "group_size": None}, "group_size must be an integer, got None"),
    ],
)
def test_strategies_that_weights_do_not_have_are_refused(weights: dict[str, Json], message: str) -> None:
    parts, _ = encode(draw_weight(8, 64, 4, 32))
    with pytest.raises(CheckpointError, match=message):
        CompressedTensorsCodec.parse(config(weights)).decode("fc", parts, (8, 64))


def test_layers_are_those_with_packed_weights_or_scales() -> None:
    codec = CompressedTensorsCodec.parse(config(INT4))
    names = ["a.weight_packed", "a.weight_scale", "b.weight", "b.weight_scale", "c.weight", "norm.weight"]
    assert codec.layers(names) == ["a", "b"]


def test_a_name_goes_before_an_expression_and_that_before_a_class() -> None:
    def group(target: str, bits: int) -> Json:
        return {"targets": [target], "weights": {**INT4, "num_bits": bits}}

    described = {"linear": group("Linear", 2), "expression": group("re:.*fc", 3), "name": group("m.fc", 4)}
    codec = CompressedTensorsCodec.parse({"format": "pack-quantized", "config_groups": described})
    for name, bits in (("m.fc", 4), ("n.fc", 3), ("other", 2)):
        parts, _ = encode(draw_weight(8, 64, bits, 32))
        assert codec.decode(name, parts, (8, 64)).weight.spec.fmt.name == f"int{bits}"
    with pytest.raises(CheckpointError, match="no config_group has other for a target"):
        CompressedTensorsCodec(groups=codec.groups[1:]).decode("other", {}, (8, 64))


@pytest.mark.parametrize("scheme", ["fp8_e4m3_w8a8"])
def test_inputs_are_quantized_as_the_group_says(scheme: str) -> None:
    layer = StoredLayer(
        weight=QTensor.quantize(torch.randn(8, 64), SCHEMES[scheme].weight), activation=SCHEMES[scheme].activation
    )
    tensors, described = encode_compressed_tensors({"fc": layer}, [], None)
    parts = {name.removeprefix("fc."): part for name, part in tensors.items()}
    assert CompressedTensorsCodec.parse(described).decode("fc", parts, (8, 64)).activation == layer.activation
    alone = CompressedTensorsCodec.parse(described, weights_only=True).decode("fc", parts, (8, 64))
    assert alone.activation is None


def test_inputs_in_a_way_that_nothing_here_has() -> None:
    parts, _ = encode(draw_weight(8, 64, 4, 32))
    inputs: dict[str, Json] = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "dynamic": "local"}
    described = config(INT4, input_activations=inputs)
    with pytest.raises(CheckpointError, match=r"fc: its input is quantized in a way .* load with weights_only=True"):
        CompressedTensorsCodec.parse(described).decode("fc", parts, (8, 64))
    assert CompressedTensorsCodec.parse(described, weights_only=True).decode("fc", parts, (8, 64)).activation is None


def test_static_inputs_need_their_scale() -> None:
    parts, _ = encode(draw_weight(8, 64, 4, 32))
    inputs: dict[str, Json] = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    codec = CompressedTensorsCodec.parse(config(INT4, input_activations=inputs))
    with pytest.raises(CheckpointError, match="fc: a static input needs one float input_scale"):
        codec.decode("fc", parts, (8, 64))
    read = codec.decode("fc", parts | {"input_scale": torch.tensor([0.5], dtype=torch.bfloat16)}, (8, 64))
    assert read.input_scale is not None
    assert (read.input_scale.item(), read.input_scale.shape, read.input_scale.dtype) == (0.5, (), torch.float32)
