"""GPTQ beside the paper's equations, and what they promise."""

from dataclasses import replace

import pytest
import torch

from incref.algorithms import columns
from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_reference import gptq_reference
from incref.algorithms.rtn import rtn
from incref.backends.discovery import find_kernel
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.errors import UnsupportedError
from incref.formats import FORMATS, SymmetricScale
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, per_block, per_channel, per_group
from incref.ops import gptq_update, unpack
from incref.qtensor.qtensor import QTensor
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec
from incref.qtensor.spec import QuantSpec

N, K = 24, 90
INT4 = QuantSpec(fmt=FORMATS["int4"], granularity=per_group(32), symmetric_scale=SymmetricScale.SPAN)
SPECS = {
    "int4_g32": INT4,
    "int4_g32_extreme": replace(INT4, symmetric_scale=SymmetricScale.EXTREME),
    "uint4_g20": QuantSpec(fmt=FORMATS["uint4"], granularity=per_group(20), symmetric=False),
    "int2_per_row": QuantSpec(fmt=FORMATS["int2"], granularity=per_channel()),
    "int8_per_tensor": QuantSpec(fmt=FORMATS["int8"], granularity=PER_TENSOR),
    "uint3_along_0": QuantSpec(fmt=FORMATS["uint3"], granularity=per_group(8, -2), symmetric=False),
    "e4m3_block": QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=per_block((16, 16))),
    "nf4": QuantSpec(fmt=FORMATS["nf4"], granularity=per_group(32)),
    "nf4_scales_uint6": QuantSpec(
        fmt=FORMATS["nf4"],
        granularity=per_group(32),
        scales=ScaleSpec(fmt=FORMATS["uint6"], symmetric=False, group_size=10, run=ScaleRun.COLUMNS),
    ),
    "uint4_scales_int8": QuantSpec(
        fmt=FORMATS["uint4"],
        granularity=per_group(20),
        symmetric=False,
        scales=ScaleSpec(fmt=FORMATS["int8"], run=ScaleRun.COLUMNS),
    ),
    "mxfp4": QuantSpec(fmt=FORMATS["mxfp4"]),
    "mxfp6_along_0": QuantSpec(fmt=FORMATS["mxfp6_e3m2"], axis=0),
    "mxint8": QuantSpec(fmt=FORMATS["mxint8"]),
    "nvfp4": QuantSpec(fmt=FORMATS["nvfp4"]),
}
METHODS = {
    f"{order.value}-{scales.value}": GPTQ(order=order, group_scales=scales, block_size=40)
    for order in ColumnOrder
    for scales in (GroupScales.CURRENT, GroupScales.ORIGINAL)
}


def data(tokens: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and a Hessian of correlated inputs, one of which is always zero."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(N, K, generator=generator)
    x = torch.randn(tokens, K, generator=generator) @ torch.randn(K, K, generator=generator)
    x *= torch.rand(K, generator=generator).exp()
    x[:, 7] = 0
    return w, (x.T @ x).to(torch.float64)


def output_error(w: torch.Tensor, q: torch.Tensor, hessian: torch.Tensor) -> float:
    e = q.to(torch.float64) - w.to(torch.float64)
    return float((e @ hessian * e).sum())


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_equals_the_equations_of_the_paper(spec: QuantSpec, method: GPTQ) -> None:
    w, h = data()
    want = gptq_reference(w, h, spec, method)
    result = gptq(w, h, spec, method, dtype=torch.float64)
    assert torch.equal(result.qweight.dequantize(), want)
    # Updates in float32 change the last bits of scales that are computed on the way, and codes at a tie at most.
    quick = gptq(w, h, spec, method).qweight
    assert float((quick.codes != result.qweight.codes).sum()) <= 1
    assert output_error(w, want, h) < output_error(w, rtn(w, spec).dequantize(), h)


@pytest.mark.skipif(find_kernel("gptq_update", "cpu") is None, reason="no installed backend has gptq_update")
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("name", ["int4_g32", "uint4_g20", "int2_per_row", "uint3_along_0"])
def test_kernels_change_no_bit(name: str, method: GPTQ, monkeypatch: pytest.MonkeyPatch) -> None:
    w, h = data()
    fast = gptq(w, h, SPECS[name], method)
    monkeypatch.setattr(columns, "find_kernel", lambda *_: None)
    plain = gptq(w, h, SPECS[name], method)
    assert torch.equal(fast.qweight.codes, plain.qweight.codes)
    assert torch.equal(fast.qweight.scale, plain.qweight.scale)
    assert fast.loss == plain.loss


@pytest.mark.parametrize("sweeps", [0, 2])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_loss_is_the_error_that_calibration_data_sees(spec: QuantSpec, sweeps: int) -> None:
    w, h = data()
    method = GPTQ(order=ColumnOrder.DESCENDING, refine_sweeps=sweeps)
    result = gptq(w, h, spec, method, dtype=torch.float64)
    w[:, 7] = 0
    damped = h + result.factor.damp * torch.eye(K, dtype=torch.float64)
    damped[7, 7] += 1
    seen = output_error(w, result.qweight.dequantize(), damped)
    # The factor is that of a Hessian within K roundings of the damped one, which its inverse magnifies.
    bound = K * torch.finfo(torch.float64).eps * float(torch.linalg.cond(damped))
    assert result.loss == pytest.approx(seen, rel=bound)


@pytest.mark.parametrize("block_size", [1, 7, 32, 64, 2048])
def test_block_size_only_changes_the_order_of_sums(block_size: int) -> None:
    w, h = data()
    want = gptq(w, h, INT4, GPTQ(), dtype=torch.float64).qweight
    got = gptq(w, h, INT4, GPTQ(block_size=block_size), dtype=torch.float64).qweight
    assert torch.equal(got.codes, want.codes)


def test_scales_as_of_the_block() -> None:
    w, h = data()
    method = GPTQ(group_scales=GroupScales.BLOCK, block_size=64)
    got = gptq(w, h, INT4, method, dtype=torch.float64).qweight
    at_start = rtn(w[:, :64].clone().index_fill_(1, torch.tensor([7]), 0.0), INT4).scale
    assert torch.equal(got.scale[:, :2], at_start)
    current = gptq(w, h, INT4, replace(method, group_scales=GroupScales.CURRENT), dtype=torch.float64).qweight
    assert torch.equal(got.scale[:, :1], current.scale[:, :1])
    assert not torch.equal(got.scale[:, 1:2], current.scale[:, 1:2])
    # With a block a group, the two are the same.
    aligned = [replace(method, group_scales=s, block_size=32) for s in (GroupScales.BLOCK, GroupScales.CURRENT)]
    first, second = (gptq(w, h, INT4, m, dtype=torch.float64).qweight for m in aligned)
    assert torch.equal(first.scale, second.scale)
    assert torch.equal(first.packed, second.packed)


def test_an_identity_hessian_rounds_to_nearest() -> None:
    w, _ = data()
    got = gptq(w, torch.eye(K), INT4, GPTQ())
    want = rtn(w, INT4)
    assert torch.equal(got.qweight.packed, want.packed)
    assert torch.equal(got.qweight.scale, want.scale)


def test_dead_columns() -> None:
    w, h = data()
    zeroed = gptq(w, h, INT4, GPTQ()).qweight.dequantize()
    assert bool((zeroed[:, 7] == 0).all())
    kept = gptq(w, h, INT4, GPTQ(dead_columns=DeadColumns.KEEP, group_scales=GroupScales.ORIGINAL)).qweight
    assert torch.equal(kept.dequantize()[:, 7], rtn(w, INT4).dequantize()[:, 7])


@pytest.mark.parametrize("name", ["int4_g32", "mxfp4"])
def test_mixed_groups_carry_their_order(name: str) -> None:
    w, h = data()
    q = gptq(w, h, SPECS[name], GPTQ(order=ColumnOrder.DESCENDING)).qweight
    assert q.order is not None
    assert torch.equal(q.order, h.diagonal().argsort(descending=True, stable=True).to(torch.int32))
    again = QTensor.from_tensors(q.to_tensors(), q.metadata())
    assert torch.equal(again.dequantize(), q.dequantize())
    for method in (
        GPTQ(order=ColumnOrder.DESCENDING, group_scales=GroupScales.ORIGINAL),
        GPTQ(order=ColumnOrder.WITHIN_GROUPS),
    ):
        assert gptq(w, h, SPECS[name], method).qweight.order is None


@pytest.mark.parametrize("use_mse_search", [False, True])
def test_a_group_without_negative_weights_keeps_its_range(use_mse_search: bool) -> None:
    w, h = data()
    w = w.abs()
    q = gptq(w, h, INT4, GPTQ(group_scales=GroupScales.ORIGINAL, use_mse_search=use_mse_search)).qweight.dequantize()
    step = w.amax() / 7.5
    assert float((q.amax(1) - w.amax(1)).abs().max()) < 4 * step


def test_eight_bits_with_zero_points_do_not_wrap() -> None:
    w, h = data()
    spec = QuantSpec(fmt=FORMATS["uint8"], granularity=per_group(32), symmetric=False)
    q = gptq(w.abs(), h, spec, GPTQ()).qweight.dequantize()
    assert output_error(w.abs(), q, h) < 1e-3 * output_error(w.abs(), torch.zeros_like(w), h)


def test_few_tokens() -> None:
    w, h = data(tokens=3)
    result = gptq(w, h, INT4, GPTQ(percdamp=0.0))
    assert result.factor.is_raised
    assert output_error(w, result.qweight.dequantize(), h) < output_error(w, rtn(w, INT4).dequantize(), h)


def test_dtype_of_the_weight_is_kept() -> None:
    w, h = data()
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        result = gptq(w.to(dtype), h, INT4, GPTQ())
        assert result.qweight.dtype is dtype
        want = gptq(w.to(dtype).to(torch.float32), h, INT4, GPTQ())
        assert torch.equal(result.qweight.packed, want.qweight.packed)


def test_refuses_what_does_not_fit() -> None:
    w, h = data()
    with pytest.raises(ValueError, match=r"needs a Hessian \[K, K\], got \(24, 90\) and \(89, 89\)"):
        gptq(w, h[1:, 1:], INT4, GPTQ())
    with pytest.raises(ValueError, match="finite"):
        gptq(w.index_fill(1, torch.tensor([3]), torch.inf), h, INT4, GPTQ())
    with pytest.raises(UnsupportedError, match="those of mxfp4 are not"):
        gptq(w, h, SPECS["mxfp4"], GPTQ(use_mse_search=True))
    with pytest.raises(ValueError, match="no blocks"):
        gptq_reference(w, h, INT4, GPTQ(group_scales=GroupScales.BLOCK))


@pytest.mark.parametrize("values", [{"percdamp": -0.1}, {"percdamp": float("nan")}, {"block_size": 0}])
def test_method_checks_its_values(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        GPTQ(**values)  # type: ignore[arg-type]  # that is the point


def test_weights_are_left_alone() -> None:
    w, h = data()
    before, hessian_before = w.clone(), h.clone()
    gptq(w, h, INT4, GPTQ())
    gptq_reference(w, h, INT4, GPTQ())
    assert torch.equal(w, before)
    assert torch.equal(h, hessian_before)


def test_the_operation_gives_the_codes_of_the_algorithm() -> None:
    w, hessian = data()
    w[:, 7] = 0.0
    spec = QuantSpec(fmt=FORMATS["int4"], granularity=per_channel())
    result = gptq(w, hessian, spec, GPTQ(group_scales=GroupScales.ORIGINAL, block_size=K))
    upper = result.factor.upper.inverse().to(torch.float32)
    codes, _, _ = gptq_update(w, upper, result.qweight.scale, "int4")
    assert torch.equal(codes, unpack(result.qweight.packed, "int4", layout=PackLayout.DENSE, length=K))
