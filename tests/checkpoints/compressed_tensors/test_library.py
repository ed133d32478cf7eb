"""Against the library compressed-tensors itself, in both directions."""

import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from incref.checkpoints.compressed_tensors.decode import CompressedTensorsCodec
from incref.checkpoints.compressed_tensors.encode import encode_compressed_tensors
from incref.checkpoints.stored import StoredLayer
from incref.formats import FORMATS
from incref.numerics.granularity import PER_TENSOR, Granularity, per_block, per_channel, per_group
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

compressors = pytest.importorskip("compressed_tensors.compressors", reason="needs compressed-tensors")
quantization = pytest.importorskip("compressed_tensors.quantization", reason="needs compressed-tensors")

SHAPE = (48, 96)


def specs() -> Iterator[tuple[str, QuantSpec]]:
    for bits in range(2, 9):
        for name, granularity in (("g32", per_group(32)), ("channel", per_channel())):
            yield f"int{bits}-{name}", QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=granularity)
            fmt = FORMATS[f"uint{bits}"]
            yield f"uint{bits}-{name}", QuantSpec(fmt=fmt, granularity=granularity, symmetric=False)
    granularities: dict[str, Granularity] = {
        "tensor": PER_TENSOR,
        "channel": per_channel(),
        "g32": per_group(32),
        "block": per_block((16, 32)),
    }
    for name, granularity in granularities.items():
        yield f"e4m3-{name}", QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=granularity)
    for name in ("mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "nvfp4"):
        yield name, QuantSpec(fmt=FORMATS[name])


SPECS = dict(specs())


def weight(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def encode(qweight: QTensor, scale_dtype: torch.dtype | None) -> tuple[dict[str, Tensor], object, dict[str, object]]:
    """The tensors of a layer, what the library makes of their description, and the description after JSON."""
    tensors, config = encode_compressed_tensors({"fc": StoredLayer(weight=qweight)}, ["lm_head"], scale_dtype)
    config = json.loads(json.dumps(config))
    read = quantization.QuantizationConfig(**config)
    return {name.removeprefix("fc."): t for name, t in tensors.items()}, read.config_groups["group_0"], config


@pytest.mark.parametrize("scale_dtype", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SPECS)
def test_decompresses_our_weights_bit_for_bit(name: str, scale_dtype: torch.dtype | None) -> None:
    qweight = QTensor.quantize(weight(), SPECS[name])
    if qweight.tensor_scale is not None:
        # A power of two means the same as a factor and, its reciprocal, as a divisor.
        qweight.tensor_scale.fill_(2**-10)
    tensors, scheme, config = encode(qweight, scale_dtype)
    theirs = compressors.BaseCompressor.get_value_from_registry(scheme.format).decompress(tensors, scheme)["weight"]
    ours = CompressedTensorsCodec.parse(config).decode("fc", tensors, SHAPE).weight
    assert ours.dtype is theirs.dtype
    assert torch.equal(ours.dequantize(), theirs)
    if scale_dtype is None or qweight.scale.dtype is torch.uint8:
        assert torch.equal(ours.dequantize(torch.float32), qweight.dequantize(torch.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SPECS)
def test_reads_what_the_library_compressed(name: str, dtype: torch.dtype) -> None:
    spec = SPECS[name]
    _, scheme, config = encode(QTensor.quantize(weight(), spec), None)
    arguments = scheme.weights
    x = weight(dtype)
    low, high = _extremes(x, arguments)
    global_scale = torch.tensor([1000.0]) if name == "nvfp4" else None
    scale, zero = quantization.utils.calculate_qparams(low, high, arguments, global_scale=global_scale)
    given = {"weight": x, "weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    if global_scale is not None:
        given["weight_global_scale"] = global_scale
    if spec.symmetric:
        del given["weight_zero_point"]
    compressor = compressors.BaseCompressor.get_value_from_registry(scheme.format)
    stored = compressor.compress(given, scheme)
    theirs = compressor.decompress(stored, scheme)["weight"]
    ours = CompressedTensorsCodec.parse(config).decode("fc", stored, SHAPE).weight
    assert torch.equal(ours.dequantize(), theirs)
    assert ours.dtype is theirs.dtype


def _extremes(x: Tensor, arguments: object) -> tuple[Tensor, Tensor]:
    strategy, group_size = arguments.strategy, arguments.group_size  # type: ignore[attr-defined]  # untyped
    if strategy == "tensor":
        return x.min(), x.max()
    if strategy == "channel":
        return x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    if strategy == "block":
        height, width = arguments.block_structure  # type: ignore[attr-defined]  # untyped
        blocks = x.unflatten(0, (-1, height)).unflatten(2, (-1, width))
        return blocks.amin((1, 3)), blocks.amax((1, 3))
    groups = x.unflatten(1, (-1, group_size))
    return groups.amin(2), groups.amax(2)


def test_nvfp4_is_read_bit_for_bit_whatever_the_scale_of_the_tensor_is() -> None:
    qweight = QTensor.quantize(weight(), SPECS["nvfp4"])
    tensors, scheme, config = encode(qweight, None)
    compressor = compressors.BaseCompressor.get_value_from_registry(scheme.format)
    for divisor in (tensors["weight_global_scale"], torch.tensor([3.0]), torch.tensor([1e-30]), torch.tensor([1e30])):
        stored = {**tensors, "weight_global_scale": divisor}
        theirs = compressor.decompress(stored, scheme)["weight"]
        ours = CompressedTensorsCodec.parse(config).decode("fc", stored, SHAPE).weight
        assert torch.equal(ours.dequantize(), theirs)
        # Written again it is the same file.
        again, _, _ = encode(ours, None)
        assert all(torch.equal(again[name].view(torch.uint8), stored[name].view(torch.uint8)) for name in stored)


def test_nvfp4_quantized_here_differs_in_the_last_bits_of_float32_once_it_is_stored() -> None:
    qweight = QTensor.quantize(weight(), SPECS["nvfp4"])
    tensors, _, config = encode(qweight, None)
    stored = CompressedTensorsCodec.parse(config).decode("fc", tensors, SHAPE).weight.dequantize(torch.float64)
    exact = qweight.dequantize(torch.float64)
    # The reciprocal, and the quotient by it, are each rounded to float32; the element is multiplied in float64.
    bound = 2 * 2.0**-24 + 2.0**-48
    assert bool(((stored - exact).abs() <= bound * exact.abs()).all())
    assert not torch.equal(stored, exact)
