import json
from dataclasses import replace

import pytest
import torch

from incref.errors import CheckpointError
from incref.formats import FORMATS
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity, per_channel, per_group
from incref.qtensor.parts import quantize_parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.scale_spec import ScaleSpec
from incref.qtensor.spec import QuantSpec

X = torch.randn(24, 70, generator=torch.Generator().manual_seed(0))
UINT4 = QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(32), symmetric=False)


def make(spec: QuantSpec = UINT4, x: torch.Tensor = X, layout: PackLayout = PackLayout.HPU) -> QTensor:
    order = torch.arange(x.shape[-1], dtype=torch.int32).flip(0)
    return QTensor.from_parts(quantize_parts(x, spec), spec, torch.bfloat16, order=order, layout=layout)


@pytest.mark.parametrize("granularity", [per_group(32), per_channel()], ids=str)
def test_a_layout_changes_no_weight(granularity: Granularity) -> None:
    spec = replace(UINT4, granularity=granularity)
    hpu, dense = make(spec), make(spec, layout=PackLayout.DENSE)
    assert torch.equal(hpu.codes, dense.codes)
    assert hpu.codes.is_contiguous()
    for dtype in (torch.bfloat16, torch.float32):
        assert torch.equal(hpu.dequantize(dtype), dense.dequantize(dtype))
    # As many bits, but for the last byte of a row of zero points.
    assert hpu.packed.nbytes == dense.packed.nbytes


def test_words_of_hpu_run_along_the_output() -> None:
    q = make()
    assert q.zero_point is not None
    assert (q.packed.shape, q.zero_point.shape, q.scale.shape) == ((70, 3), (3, 3), (24, 3))
    nibbles = [(word >> 4 * j) & 15 for word in q.packed[5].tolist() for j in range(8)]
    assert nibbles == q.codes[:, 5].tolist()
    zeros = q.parts.zero_point
    assert zeros is not None
    assert [(word >> 4 * j) & 15 for word in q.zero_point[2].tolist() for j in range(8)] == zeros[:, 2].tolist()


def test_the_layout_is_part_of_what_is_saved() -> None:
    q = make()
    described = json.loads(json.dumps(q.metadata()))
    assert described["layout"] == "hpu"
    again = QTensor.from_tensors(q.to_tensors(), described)
    assert torch.equal(again.dequantize(), q.dequantize())
    with pytest.raises(CheckpointError, match=r"packed must be torch\.uint8 of shape"):
        QTensor.from_tensors(q.to_tensors(), {**described, "layout": "dense"})
    with pytest.raises(CheckpointError, match=r"packed must be torch\.int32 of shape"):
        QTensor.from_tensors(make(layout=PackLayout.DENSE).to_tensors(), described)


@pytest.mark.parametrize(
    ("spec", "x", "layout", "message"),
    [
        (UINT4, X[:20], PackLayout.HPU, r"matrices \[N, K\] with N a multiple of 8, got shape \(20, 70\)"),
        (UINT4, X[None], PackLayout.HPU, r"matrices \[N, K\] with N a multiple of 8, got shape \(1, 24, 70\)"),
        (replace(UINT4, fmt=FORMATS["uint3"]), X, PackLayout.HPU, "unsigned integers of 4 bits, got uint3"),
        (QuantSpec(fmt=FORMATS["int4"]), X, PackLayout.HPU, "unsigned integers of 4 bits, got int4"),
        (QuantSpec(fmt=FORMATS["mxfp4"]), X, PackLayout.HPU, "unsigned integers of 4 bits, got mxfp4"),
        (replace(UINT4, granularity=PER_TENSOR), X, PackLayout.HPU, "float scales of groups along K, got uint4"),
        (replace(UINT4, granularity=per_group(4, -2)), X, PackLayout.HPU, "float scales of groups along K, got uint4"),
        (replace(UINT4, scales=ScaleSpec(fmt=FORMATS["int8"])), X, PackLayout.HPU, "float scales of groups along K"),  # type: ignore[arg-type]  # an integer format
        (UINT4, X, PackLayout.AWQ, "must be one of dense, hpu, got awq"),
    ],
)
def test_what_a_layout_does_not_hold(spec: QuantSpec, x: torch.Tensor, layout: PackLayout, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(spec, x, layout)
