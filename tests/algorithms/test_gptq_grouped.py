import pytest
import torch
from torch import Tensor

from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_grouped import gptq_grouped
from incref.config.method import GPTQ, ColumnOrder, GroupScales
from incref.errors import UnsupportedError
from incref.formats import FORMATS
from incref.numerics.granularity import PER_TENSOR, per_group
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(6, 36, generator=GENERATOR)
INT4 = QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(16), symmetric=False)


def hessians() -> Tensor:
    x = torch.randn(2, 50, 36, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.mT @ x


@pytest.mark.parametrize("fmt", ["uint4", "mxfp4"])
def test_every_part_is_quantized_on_its_own(fmt: str) -> None:
    spec = INT4 if fmt == "uint4" else QuantSpec(fmt=FORMATS[fmt])
    result = gptq_grouped(WEIGHT, hessians(), spec, GPTQ())
    single = [gptq(part, h, spec, GPTQ()) for part, h in zip(WEIGHT.chunk(2), hessians(), strict=True)]
    assert torch.equal(result.qweight.dequantize(), torch.cat([one.qweight.dequantize() for one in single]))
    assert result.loss == sum(one.loss for one in single)


def test_a_scale_of_the_tensor_is_that_of_all_parts() -> None:
    spec = QuantSpec(fmt=FORMATS["nvfp4"])
    result = gptq_grouped(WEIGHT, hessians(), spec, GPTQ()).qweight
    want = QTensor.quantize(WEIGHT, spec).tensor_scale
    assert result.tensor_scale is not None
    assert want is not None
    assert torch.equal(result.tensor_scale, want)
    error = (result.dequantize() - WEIGHT).abs().max()
    assert error < WEIGHT.abs().max() / 3


def test_the_factor_whose_damping_was_raised_is_given() -> None:
    singular = torch.ones(36, 36, dtype=torch.float64)
    both = torch.stack([hessians()[0], singular])
    assert gptq_grouped(WEIGHT, both, INT4, GPTQ(percdamp=0.0)).factor.is_raised
    assert not gptq_grouped(WEIGHT, hessians(), INT4, GPTQ()).factor.is_raised


def test_what_parts_cannot_share_is_refused() -> None:
    descending = GPTQ(order=ColumnOrder.DESCENDING)
    with pytest.raises(UnsupportedError, match="an order of columns; set static_groups=True"):
        gptq_grouped(WEIGHT, hessians(), INT4, descending)
    gptq_grouped(WEIGHT, hessians(), INT4, GPTQ(order=ColumnOrder.DESCENDING, group_scales=GroupScales.ORIGINAL))
    one_scale = QuantSpec(fmt=FORMATS["int4"], granularity=PER_TENSOR)
    with pytest.raises(UnsupportedError, match="scales for every row"):
        gptq_grouped(WEIGHT, hessians(), one_scale, GPTQ())
