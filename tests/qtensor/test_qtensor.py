import copy
import json
from dataclasses import replace

import pytest
import torch

from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats import FORMATS
from incref.numerics.granularity import PER_TENSOR, per_block, per_group
from incref.qtensor.format_json import Json
from incref.qtensor.parts import Parts, dequantize_parts, fake_quantize, quantize_parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

X = torch.randn(6, 70, generator=torch.Generator().manual_seed(0))
SPECS = {name: scheme.weight for name, scheme in SCHEMES.items() if scheme.activation is None} | {
    "int3_g32": QuantSpec(fmt=FORMATS["int3"], granularity=per_group(32)),
    "uint5_per_tensor": QuantSpec(fmt=FORMATS["uint5"], symmetric=False),
    "uint3_along_0": QuantSpec(fmt=FORMATS["uint3"], granularity=per_group(4, -2), symmetric=False),
    "nf4_g64": QuantSpec(fmt=FORMATS["nf4"], granularity=per_group(64)),
    "fp8_block": QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=per_block((4, 32))),
    "mxfp6_along_0": QuantSpec(fmt=FORMATS["mxfp6_e2m3"], axis=0),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_packing_loses_nothing(spec: QuantSpec) -> None:
    parts = quantize_parts(X, spec)
    q = QTensor.quantize(X, spec)
    assert torch.equal(q.codes, parts.codes)
    assert q.codes.dtype is parts.codes.dtype
    assert torch.equal(q.dequantize(), dequantize_parts(parts, spec, torch.float32))
    assert torch.equal(q.dequantize(torch.bfloat16), dequantize_parts(parts, spec, torch.bfloat16))
    zero_point = q.parts.zero_point
    assert (zero_point is None) == (parts.zero_point is None)
    if zero_point is not None and parts.zero_point is not None:
        assert torch.equal(zero_point, parts.zero_point)
        assert zero_point.dtype is torch.int32


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        # 128 weights of a row: codes, then scales, then zero points.
        ("int8", 8 + 32 / 128),
        ("int4_g32", 4 + 32 / 32),
        ("int4_g128", 4 + 32 / 128),
        ("int4_asym_g128", 4 + 32 / 128 + 8 / 128),
        ("fp8_e4m3", 8 + 32 / 128),
        ("mxfp8_e4m3", 8.25),
        ("mxfp6_e2m3", 6.25),
        ("mxfp4", 4.25),
        ("mxint8", 8.25),
        ("nvfp4", 4.5 + 32 / (64 * 128)),
        ("int3_g32", 3 + 32 / 32),
        ("nf4_g64", 4 + 32 / 64),
    ],
)
def test_bits_count_codes_scales_and_zero_points(name: str, bits: float) -> None:
    q = QTensor.quantize(torch.ones(64, 128), SPECS[name])
    assert q.bits_per_element == bits
    assert q.nbytes == bits * 64 * 128 / 8
    assert q.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in q.to_tensors().values())


def test_remembers_shape_dtype_and_spec() -> None:
    q = QTensor.quantize(X.to(torch.bfloat16), SPECS["mxfp6_e2m3"])
    assert (q.shape, q.dtype, q.spec) == ((6, 70), torch.bfloat16, SPECS["mxfp6_e2m3"])
    assert q.dequantize().dtype is torch.bfloat16
    assert repr(q) == "QTensor(mxfp6_e2m3, shape=(6, 70), 6.4 bits an element)"


@pytest.mark.parametrize("shape", [(0, 32), (4, 0), (), (1,), (2, 3, 5)])
@pytest.mark.parametrize("fmt", ["int4", "int8", "float6_e2m3fn"])
def test_any_shape(shape: tuple[int, ...], fmt: str) -> None:
    x = torch.ones(shape)
    spec = QuantSpec(fmt=FORMATS[fmt], granularity=per_group(32) if shape else PER_TENSOR)
    q = QTensor.quantize(x, spec)
    assert q.shape == shape
    assert torch.equal(q.dequantize(), fake_quantize(x, spec))
    assert q.bits_per_element >= 0


def test_a_single_number_with_a_zero_point() -> None:
    q = QTensor.quantize(torch.tensor(-3.0), QuantSpec(fmt=FORMATS["uint4"], symmetric=False))
    assert q.dequantize().item() == -3.0
    assert q.parts.zero_point is not None
    assert q.parts.zero_point.shape == ()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_survives_its_tensors_and_metadata(spec: QuantSpec) -> None:
    q = QTensor.quantize(X, spec)
    again = QTensor.from_tensors(q.to_tensors(), json.loads(json.dumps(q.metadata())))
    assert (again.spec, again.shape, again.dtype) == (q.spec, q.shape, q.dtype)
    assert torch.equal(again.dequantize(), q.dequantize())


def test_moves_all_tensors() -> None:
    q = QTensor.quantize(X, SPECS["int4_asym_g128"]).to("meta")
    assert {tensor.device.type for tensor in q.to_tensors().values()} == {"meta"}
    assert q.device == torch.device("meta")


def test_zero_points_must_be_codes() -> None:
    spec = SPECS["int4_asym_g128"]
    parts = quantize_parts(X, spec)
    wrong = Parts(codes=parts.codes, scale=parts.scale, zero_point=torch.full((6, 1), 16, dtype=torch.int32))
    with pytest.raises(ValueError, match="zero points of uint4 must be from 0 to 15"):
        QTensor.from_parts(wrong, spec, torch.float32)


def test_tensors_that_do_not_belong_to_the_spec_are_refused() -> None:
    q = QTensor.quantize(X, SPECS["int4_g32"])
    with pytest.raises(ValueError, match=r"packed must be torch\.uint8 of shape \(6, 35\), got torch\.uint8 of shape"):
        replace(q, packed=q.packed[:, 1:])
    with pytest.raises(
        ValueError, match=r"scale must be torch\.float32 or torch\.float64 of shape \(6, 3\), got torch\.int8"
    ):
        replace(q, scale=q.scale.to(torch.int8))
    with pytest.raises(ValueError, match="a zero point goes with symmetric=False, got symmetric=True"):
        replace(q, zero_point=q.packed)
    with pytest.raises(ValueError, match="int4 has no tensor_scale"):
        replace(q, tensor_scale=torch.tensor(1.0))
    with pytest.raises(ValueError, match="nvfp4 needs a tensor_scale"):
        replace(QTensor.quantize(X, SPECS["nvfp4"]), tensor_scale=None)
    with pytest.raises(ValueError, match="got symmetric=False"):
        replace(QTensor.quantize(X, SPECS["int4_asym_g128"]), zero_point=None)


def _metadata(**changes: Json) -> Json:
    return {**QTensor.quantize(X, SPECS["int4_g32"]).metadata(), **changes}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "must have version 1"),
        (_metadata(version=2), "must have version 1"),
        (_metadata(layout="sparse"), "the layout must be one of dense, hpu, got 'sparse'"),
        (_metadata(dtype="float33"), "the dtype must be one of float16, bfloat16, float32, float64, got 'float33'"),
        (_metadata(dtype=["float32"]), "the dtype must be one of"),
        (_metadata(shape="6x70"), "a shape is a list of extents, got '6x70'"),
        (_metadata(shape=[6, -70]), "extents of a shape are integers and not negative"),
        (_metadata(shape=[6, 71]), r"packed must be torch\.uint8 of shape \(6, 36\)"),
        (_metadata(shape=[420]), "packed must be"),
        (_metadata(spec={}), "a QuantSpec has the fields"),
        (_metadata(spec=SPECS["mxfp4"].to_json()), r"scale must be torch\.uint8"),
        (_metadata(spec=SPECS["nvfp4"].to_json()), "must be"),
    ],
)
def test_metadata_that_lies_is_refused(metadata: Json, message: str) -> None:
    tensors = QTensor.quantize(X, SPECS["int4_g32"]).to_tensors()
    with pytest.raises(CheckpointError, match=message):
        QTensor.from_tensors(tensors, metadata)


def test_missing_and_unknown_tensors_are_refused() -> None:
    q = QTensor.quantize(X, SPECS["int4_g32"])
    with pytest.raises(CheckpointError, match="scale"):
        QTensor.from_tensors({"packed": q.packed}, q.metadata())
    with pytest.raises(CheckpointError, match="colour"):
        QTensor.from_tensors({**q.to_tensors(), "colour": q.scale}, q.metadata())


def test_can_be_copied() -> None:
    q = QTensor.quantize(X, SPECS["nvfp4"])
    assert torch.equal(copy.deepcopy(q).dequantize(), q.dequantize())
