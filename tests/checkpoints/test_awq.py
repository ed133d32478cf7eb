import pytest
import torch
from torch import Tensor

from incref.checkpoints.awq import AwqCodec, encode_awq
from incref.checkpoints.stored import StoredLayer
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

from .weights import draw_weight

# The column that each nibble of a word holds, from the least significant one; AutoAWQ, AWQ_ORDER.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def encode(weight: QTensor) -> dict[str, Tensor]:
    tensors, _ = encode_awq({"fc": StoredLayer(weight=weight)}, [], None)
    return {name.removeprefix("fc."): tensor for name, tensor in tensors.items()}


def nibbles(words: Tensor) -> Tensor:
    rows = []
    for row in words.tolist():
        codes = [0] * (8 * len(row))
        for w, word in enumerate(row):
            for place, column in enumerate(ORDER):
                codes[8 * w + column] = (word % (1 << 32)) >> (4 * place) & 15
        rows.append(codes)
    return torch.tensor(rows)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, -1])
def test_files_hold_the_weight_bit_for_bit(group_size: int, *, symmetric: bool) -> None:
    weight = draw_weight(24, 64, 4, group_size, symmetric=symmetric)
    parts = encode(weight)
    size = 64 if group_size == -1 else group_size
    scales, zeros = (x.repeat_interleave(size, 0) for x in (parts["scales"], nibbles(parts["qzeros"])))
    assert torch.equal(((nibbles(parts["qweight"]) - zeros) * scales).T, weight.dequantize())
    again = AwqCodec(group_size=group_size).decode("fc", parts, (24, 64)).weight
    assert torch.equal(again.dequantize(), weight.dequantize())
    assert (again.dtype, again.spec.symmetric) == (torch.float16, symmetric)


def test_the_configuration_says_what_the_files_hold() -> None:
    _, config = encode_awq({"fc": StoredLayer(weight=draw_weight(8, 64, 4, 32))}, ["lm_head"], None)
    assert config == {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 32,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": ["lm_head"],
    }
    assert AwqCodec.parse(config) == AwqCodec(group_size=32)
    transformers = pytest.importorskip("transformers")
    read = transformers.AwqConfig.from_dict(config)
    assert (read.bits, read.group_size, read.zero_point, read.format) == (4, 32, True, "gemm")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bits": 3}, "bits must be one of 4, got 3"),
        ({"w_bit": 8}, "w_bit must be one of 4, got 8"),
        ({"version": "GEMV"}, "the version of AWQ must be gemm, got 'GEMV'"),
        ({"q_group_size": -2}, "q_group_size must be positive or -1, got -2"),
    ],
)
def test_configurations_that_are_not_known_are_refused(config: dict[str, Json], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        AwqCodec.parse({"bits": 4, "group_size": 128, **config})


def test_names_of_old_configurations() -> None:
    assert AwqCodec.parse({"w_bit": 4, "q_group_size": 64, "version": "GEMM"}) == AwqCodec(group_size=64)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"qweight": None}, (24, 64), "fc: qweight must be .* and there is none"),
        ({"qweight": torch.zeros(64, 4, dtype=torch.int32)}, (24, 64), r"must be .* \(64, 3\), got .* \(64, 4\)"),
        ({"g_idx": torch.zeros(64)}, (24, 64), "fc: an AWQ layer has no g_idx"),
        ({}, (20, 64), "output features in eights and input features in groups of 32, and this one has 20 and 64"),
        ({}, (24, 48), "this one has 24 and 48"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    changes: dict[str, Tensor | None], shape: tuple[int, int], message: str
) -> None:
    parts: dict[str, Tensor | None] = {**encode(draw_weight(24, 64, 4, 32)), **changes}
    given = {name: part for name, part in parts.items() if part is not None}
    with pytest.raises(CheckpointError, match=message):
        AwqCodec(group_size=32).decode("fc", given, shape)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"a": draw_weight(24, 64, 3, 32)}, "a: AWQ checkpoints hold 4 bits, columns in order; got 3"),
        ({"a": draw_weight(24, 64, 4, 32, ordered=True)}, "got 4, in an order of their own"),
        ({"a": draw_weight(20, 64, 4, 32)}, "a: an AWQ layer has output features in eights"),
        ({"a": draw_weight(24, 48, 4, 32)}, "whole groups of 32, and this one has 24 and 48"),
        ({"a": draw_weight(24, 64, 4, 32), "b": draw_weight(24, 64, 4, 64)}, "groups of one size, got a 32, b 64"),
        ({}, "no quantized layer"),
    ],
)
def test_weights_that_the_layout_does_not_hold_are_refused(layers: dict[str, QTensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        encode_awq({name: StoredLayer(weight=weight) for name, weight in layers.items()}, [], None)


def test_quantized_inputs_are_refused() -> None:
    layer = StoredLayer(weight=draw_weight(24, 64, 4, 32), activation=SCHEMES["mxfp4"].weight)
    with pytest.raises(CheckpointError, match="a: AWQ checkpoints hold weights only"):
        encode_awq({"a": layer}, [], None)
