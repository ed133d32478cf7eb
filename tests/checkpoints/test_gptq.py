import pytest
import torch
from torch import Tensor

from incref.checkpoints.gptq import GptqCodec, encode_gptq
from incref.checkpoints.stored import StoredLayer
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats.layouts import PackLayout
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

from .weights import draw_weight, stream

V1, V2 = PackLayout.GPTQ_V1, PackLayout.GPTQ_V2


def encode(weight: QTensor, zeros: PackLayout = V1, scale_dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    tensors, _ = encode_gptq({"fc": StoredLayer(weight=weight)}, zeros, scale_dtype)
    return {name.removeprefix("fc."): tensor for name, tensor in tensors.items()}


def decode(parts: dict[str, Tensor], codec: GptqCodec, rows: int, columns: int) -> QTensor:
    return codec.decode("fc", parts, (rows, columns)).weight


def formula(parts: dict[str, Tensor], bits: int, *, less_one: bool) -> Tensor:
    """`(code - zero_point) * scale` in float16, as both libraries compute it, [K, N]."""
    columns, rows = len(parts["g_idx"]), parts["scales"].shape[1]
    codes = torch.tensor([stream(word, bits, columns) for word in parts["qweight"].T]).T
    zeros = torch.tensor([stream(word, bits, rows) for word in parts["qzeros"]]) + less_one
    groups = parts["g_idx"].long()
    return parts["scales"][groups] * (codes - zeros[groups])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("group_size", "ordered"), [(32, False), (32, True), (-1, False), (-1, True), (128, True)])
@pytest.mark.parametrize("zeros", [V1, V2])
def test_files_hold_the_weight_bit_for_bit(
    bits: int, group_size: int, zeros: PackLayout, *, symmetric: bool, ordered: bool
) -> None:
    weight = draw_weight(32, 96, bits, group_size, symmetric=symmetric, ordered=ordered)
    parts = encode(weight, zeros)
    assert torch.equal(formula(parts, bits, less_one=zeros is V1).T, weight.dequantize())
    again = decode(parts, GptqCodec(bits=bits, group_size=group_size, zeros=zeros), 32, 96)
    assert torch.equal(again.dequantize(), weight.dequantize())
    assert again.dtype is torch.float16
    assert again.spec.symmetric is symmetric


def test_the_configuration_says_what_the_files_hold() -> None:
    for symmetric in (True, False):
        weight = draw_weight(32, 64, 4, 32, symmetric=symmetric, ordered=not symmetric)
        for zeros, name in ((V1, "gptq"), (V2, "gptq_v2")):
            _, config = encode_gptq({"lm_head": StoredLayer(weight=weight)}, zeros, None)
            assert config == {
                "quant_method": "gptq",
                "bits": 4,
                "group_size": 32,
                "desc_act": not symmetric,
                "sym": symmetric,
                "checkpoint_format": name,
                "pack_dtype": "int32",
                "lm_head": True,
            }
            assert GptqCodec.parse(config) == GptqCodec(bits=4, group_size=32, zeros=zeros)


def test_transformers_reads_the_configuration() -> None:
    transformers = pytest.importorskip("transformers")
    _, config = encode_gptq({"fc": StoredLayer(weight=draw_weight(32, 64, 3, 32, ordered=True))}, V2, None)
    read = transformers.GPTQConfig.from_dict(config)
    assert (read.bits, read.group_size, read.desc_act, read.sym, read.format) == (3, 32, True, True, "gptq_v2")


@pytest.mark.parametrize(("rows", "bits"), [(12, 4), (1, 4), (7, 3), (33, 3), (5, 8)])
def test_output_features_that_do_not_fill_words_are_read(rows: int, bits: int) -> None:
    whole = draw_weight(64, 64, bits, 32, symmetric=False)
    parts = encode(whole)
    cut = {
        "qweight": parts["qweight"][:, :rows].contiguous(),
        "qzeros": parts["qzeros"][:, : -(-rows * bits // 32)].contiguous(),
        "scales": parts["scales"][:, :rows].contiguous(),
    }
    weight = decode(cut, GptqCodec(bits=bits, group_size=32, zeros=V1), rows, 64)
    assert torch.equal(weight.dequantize(), whole.dequantize()[:rows])


def test_a_last_group_that_is_not_full() -> None:
    weight = draw_weight(32, 96, 4, 64, symmetric=False)
    parts = encode(weight, V2)
    assert parts["scales"].shape == (2, 32)
    assert torch.equal(
        decode(parts, GptqCodec(bits=4, group_size=64, zeros=V2), 32, 96).dequantize(), weight.dequantize()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_scales_of_other_dtypes_are_read(dtype: torch.dtype) -> None:
    weight = draw_weight(32, 64, 4, 32, dtype=dtype)
    parts = encode(weight, V2, torch.float32)
    parts["scales"] = parts["scales"].to(dtype)
    again = decode(parts, GptqCodec(bits=4, group_size=32, zeros=V2), 32, 64)
    assert again.dtype is dtype
    assert torch.equal(again.dequantize(), weight.dequantize())


def test_zero_point_0_needs_version_2() -> None:
    weight = draw_weight(32, 64, 4, 32, symmetric=False)
    zero = weight.parts.zero_point
    assert zero is not None
    zero[3, 1] = 0
    weight = QTensor.from_parts(
        type(weight.parts)(codes=weight.codes, scale=weight.scale, zero_point=zero), weight.spec, weight.dtype
    )
    with pytest.raises(CheckpointError, match=r"fc: a zero point is 0, which version 1 .* can't tell from 16; save as"):
        encode(weight, V1)
    parts = encode(weight, V2)
    again = decode(parts, GptqCodec(bits=4, group_size=32, zeros=V2), 32, 64)
    assert torch.equal(again.dequantize(), weight.dequantize())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_last_code_for_a_zero_point_in_version_1_is_refused(bits: int) -> None:
    parts = encode(draw_weight(32, 64, bits, 32))
    parts["qzeros"][1] = -1
    with pytest.raises(CheckpointError, match=rf"fc: version 1 .* kept as {(1 << bits) - 1}: that is {1 << bits} for"):
        decode(parts, GptqCodec(bits=bits, group_size=32, zeros=V1), 32, 64)
    weight = decode(parts, GptqCodec(bits=bits, group_size=32, zeros=V2), 32, 64)
    assert not weight.spec.symmetric


@pytest.mark.parametrize(
    ("g_idx", "message"),
    [
        (torch.zeros(64, dtype=torch.int32), "g_idx must put 32 of the 64 columns into every group"),
        (torch.full((64,), 2, dtype=torch.int32), "g_idx must name groups from 0 to 1, got 2 to 2"),
        (torch.full((64,), -1, dtype=torch.int32), "g_idx must name groups from 0 to 1, got -1 to -1"),
        (torch.zeros(63, dtype=torch.int32), r"g_idx must be .* of shape \(64,\), got torch.int32 of shape \(63,\)"),
        (torch.zeros(64), r"g_idx must be torch.int32 or torch.int64 of shape \(64,\), got torch.float32"),
    ],
)
def test_groups_that_are_none_are_refused(g_idx: Tensor, message: str) -> None:
    parts = encode(draw_weight(32, 64, 4, 32)) | {"g_idx": g_idx}
    with pytest.raises(CheckpointError, match=message):
        decode(parts, GptqCodec(bits=4, group_size=32, zeros=V1), 32, 64)


def test_whole_groups_in_another_order_are_not_taken_for_none() -> None:
    weight = draw_weight(32, 64, 4, 32)
    parts = encode(weight)
    swapped = decode(parts | {"g_idx": 1 - parts["g_idx"]}, GptqCodec(bits=4, group_size=32, zeros=V1), 32, 64)
    scales = torch.repeat_interleave(weight.scale[:, [1, 0]], 32, dim=1)
    assert torch.equal(swapped.dequantize(torch.float32), weight.codes * scales)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qweight": None}, "fc: qweight must be torch.int32 .* and there is none"),
        ({"qzeros": None}, "fc: qzeros must be .* and there is none"),
        ({"scales": None}, "fc: scales must be .* and there is none"),
        ({"qweight": torch.zeros(7, 32, dtype=torch.int32)}, r"qweight must be .* \(8, 32\), got .* \(7, 32\)"),
        ({"qweight": torch.zeros(8, 32)}, "qweight must be torch.int32 .*, got torch.float32"),
        ({"scales": torch.zeros(3, 32)}, r"scales must be .* of shape \(2, 32\), got .* \(3, 32\)"),
        ({"scales": torch.full((2, 32), torch.inf)}, "fc: scales must be finite"),
        ({"qzeros": torch.zeros(2, 4, dtype=torch.int64)}, "qzeros must be torch.int32 .*, got torch.int64"),
        ({"codebook": torch.zeros(1)}, "fc: a GPTQ layer has no codebook"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Tensor | None], message: str) -> None:
    parts: dict[str, Tensor | None] = {**encode(draw_weight(32, 64, 4, 32)), **changes}
    given = {name: part for name, part in parts.items() if part is not None}
    with pytest.raises(CheckpointError, match=message):
        decode(given, GptqCodec(bits=4, group_size=32, zeros=V1), 32, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 5}, "bits must be one of 2, 3, 4, 8, got 5"),
        ({"bits": "4"}, "bits must be one of 2, 3, 4, 8, got '4'"),
        ({"bits": True}, "bits must be one of"),
        ({"group_size": 0}, "group_size must be positive or -1, got 0"),
        ({"group_size": None}, "group_size must be an integer, got None"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format must be gptq or gptq_v2, got 'marlin'"),
        ({"pack_dtype": "int16"}, "pack_dtype must be int32, got 'int16'"),
        ({"dynamic": {r"+:.*\.q_proj": {"bits": 8}}}, "dynamic changes"),
        ({"dynamic": ["x"]}, "dynamic changes"),
    ],
)
def test_configurations_that_are_not_known_are_refused(changes: dict[str, Json], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        GptqCodec.parse({"quant_method": "gptq", "bits": 4, "group_size": 128, **changes})


def test_what_configurations_may_leave_out() -> None:
    wanted = GptqCodec(bits=4, group_size=-1, zeros=V1)
    assert GptqCodec.parse({"bits": 4, "group_size": -1}) == wanted
    assert GptqCodec.parse({"bits": 4, "group_size": -1, "dynamic": {"-:lm_head": {}}, "damp_percent": 0.1}) == wanted


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (draw_weight(32, 64, 5, 32), "GPTQ checkpoints hold 2, 3, 4, 8 bits, got 5"),
        (draw_weight(12, 64, 4, 32), "the output features .* must fill whole words of 32 bits, and 12 of 4 bits don't"),
        (draw_weight(32, 60, 4, 32), "the input features .* and 60 of 4 bits don't"),
        (QTensor.quantize(torch.randn(32, 64), SCHEMES["mxfp4"].weight), "this layout holds matrices of integers"),
    ],
)
def test_weights_that_engines_could_not_read_are_refused(weight: QTensor, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        encode(weight, V2)


def test_layers_are_alike() -> None:
    layers = {"a": StoredLayer(weight=draw_weight(32, 64, 4, 32)), "b": StoredLayer(weight=draw_weight(32, 64, 4, 64))}
    with pytest.raises(CheckpointError, match="a has 4 bits and groups of 32, b 4 and 64"):
        encode_gptq(layers, V1, None)
    with pytest.raises(CheckpointError, match="needs a quantized layer, and the model has none"):
        encode_gptq({}, V1, None)
    layer = StoredLayer(weight=draw_weight(32, 64, 4, 32), activation=SCHEMES["mxfp4"].weight)
    with pytest.raises(CheckpointError, match="a: GPTQ checkpoints hold weights only"):
        encode_gptq({"a": layer}, V1, None)
