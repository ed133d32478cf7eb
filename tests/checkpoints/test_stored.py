import pytest
import torch

from incref.checkpoints.stored import IntParts, int_weight, narrow_scale, take_int_parts
from incref.config.rtn import RTNConfig
from incref.errors import CheckpointError
from incref.formats import FORMATS, ScaleRule
from incref.numerics.granularity import PER_TENSOR, per_block, per_channel
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

from .weights import draw_weight


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_parts_are_taken_apart_and_put_together(*, ordered: bool, symmetric: bool) -> None:
    weight = draw_weight(6, 40, 4, 16, symmetric=symmetric, ordered=ordered)
    parts = take_int_parts("fc", weight)
    assert parts.codes.dtype is parts.zero_point.dtype is torch.uint8
    assert (parts.groups is not None) == ordered
    again = int_weight("fc", parts, weight.dtype)
    assert torch.equal(again.dequantize(), weight.dequantize())


def test_one_scale_for_all_is_one_for_each_row() -> None:
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=PER_TENSOR)
    weight = QTensor.quantize(torch.linspace(-1, 1, 24).view(3, 8), spec)
    parts = take_int_parts("fc", weight)
    assert (parts.group_size, parts.scale.shape) == (-1, (3, 1))
    assert torch.equal(int_weight("fc", parts, torch.float32).dequantize(), weight.dequantize())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (QuantSpec(fmt=FORMATS["float8_e4m3fn"]), "fc: this layout holds matrices of integers"),
        (QuantSpec(fmt=FORMATS["int4"], rule=ScaleRule.CEIL), "float scales, and these are powers of two"),
        (QuantSpec(fmt=FORMATS["int4"], granularity=per_channel(1)), "groups along K in this layout, got"),
        (QuantSpec(fmt=FORMATS["int4"], granularity=per_block((2, 4))), "groups along K in this layout, got"),
        (
            QuantSpec(fmt=FORMATS["int8"], granularity=per_channel(), symmetric=False),
            "codes with zero points must be unsigned in this layout, got int8",
        ),
    ],
)
def test_weights_of_other_kinds_are_refused(spec: QuantSpec, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        take_int_parts("fc", QTensor.quantize(torch.randn(4, 8), spec))


def test_scales_are_narrowed_exactly_or_not_at_all() -> None:
    exact = torch.tensor([[0.5], [1.25]])
    assert torch.equal(narrow_scale("fc", exact, torch.float16, rounds=False), exact.half())
    with pytest.raises(CheckpointError, match=r'fc: scales must be float16 numbers .*scale_dtype="float16"'):
        narrow_scale("fc", exact / 3, torch.float16, rounds=False)
    assert torch.equal(narrow_scale("fc", exact / 3, torch.float16, rounds=True), (exact / 3).half())


@pytest.mark.parametrize("scale", [1e-9, 1e6, float("inf")])
def test_scales_that_vanish_or_overflow_are_refused(scale: float) -> None:
    with pytest.raises(CheckpointError, match="fc: a scale is beyond the range of float16; save with a wider"):
        narrow_scale("fc", torch.tensor([scale]), torch.float16, rounds=True)


def test_scales_of_zero_stay() -> None:
    assert narrow_scale("fc", torch.zeros(1), torch.float16, rounds=False).item() == 0


def test_a_scale_that_is_not_finite_is_refused() -> None:
    parts = take_int_parts("fc", QTensor.quantize(torch.randn(4, 8), RTNConfig().scheme().weight))  # type: ignore[union-attr]
    wrong = IntParts(
        codes=parts.codes, zero_point=parts.zero_point, scale=parts.scale * torch.nan, bits=4, group_size=32
    )
    with pytest.raises(CheckpointError, match="fc: scales must be finite"):
        int_weight("fc", wrong, torch.float32)
