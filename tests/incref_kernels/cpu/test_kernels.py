from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from incref import ops
from incref.errors import FlushDenormalError, NanError, UnsupportedError
from incref.formats import NanRule, QuotientDtype, Rounding, ScaleRule
from incref.numerics.granularity import PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops.contract import Op
from incref_kernels.cpu import BACKEND
from incref_kernels.cpu.jit import code, kernel

pytestmark = pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite")

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def assert_same_bits(got: Tensor, want: Tensor) -> None:
    assert got.dtype is want.dtype
    assert got.shape == want.shape
    if want.dtype.is_floating_point:
        is_nan = want.isnan()
        assert torch.equal(got.isnan(), is_nan)
        got, want = got[~is_nan], want[~is_nan]
    integers = INTEGERS[want.itemsize]
    assert torch.equal(got.view(integers), want.view(integers))


def values(*shape: int) -> Tensor:
    """Numbers of all sizes, with every special one among them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * torch.exp2(torch.randint(-130, 120, shape, generator=generator))
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45, -1e-45, 3.4e38, 448.0, 2.0**-127])
    which = torch.randint(0, 20 * len(special), shape, generator=generator)
    return torch.where(which < len(special), special[which.clamp(max=len(special) - 1)], x)


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int8"])
@pytest.mark.parametrize("rounding", [Rounding.NEAREST_EVEN, Rounding.TOWARD_POSITIVE])
def test_every_bfloat16_becomes_what_it_is_in_the_reference(fmt: str, rounding: Rounding) -> None:
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for op in (ops.encode, ops.cast):
        want = op(x, fmt, rounding=rounding, nan=NanRule.ZERO)
        assert_same_bits(op.on(BACKEND)(x, fmt, rounding=rounding, nan=NanRule.ZERO), want)


@pytest.mark.parametrize("fmt", ["mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4"])
@pytest.mark.parametrize(("shape", "axis"), [((5, 100), -1), ((70, 9), 0), ((2, 33, 5), 1), ((0, 32), -1)])
def test_blocks_have_the_bits_of_the_reference(fmt: str, shape: tuple[int, ...], axis: int) -> None:
    x = values(*shape)
    parts = ops.quantize_mx(x, fmt, axis=axis)
    for got, want in zip(ops.quantize_mx.on(BACKEND)(x, fmt, axis=axis), parts, strict=True):
        assert_same_bits(got, want)
    back = ops.fake_quantize_mx(x, fmt, axis=axis)
    assert_same_bits(ops.fake_quantize_mx.on(BACKEND)(x, fmt, axis=axis), back)
    whole = parts[2] if len(parts) > 2 else None
    assert_same_bits(ops.dequantize_mx.on(BACKEND)(*parts[:2], fmt, axis=axis, tensor_scale=whole), back)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_blocks_of_integers_are_rounded_in_every_mode(rounding: Rounding, dtype: torch.dtype) -> None:
    x = values(5, 100).to(dtype)
    bits = torch.arange(500, dtype=torch.int32).view(5, 100) * 8589935 if rounding is Rounding.STOCHASTIC else None
    want = ops.fake_quantize_mx(x, "mxint8", rounding=rounding, random_bits=bits)
    assert_same_bits(ops.fake_quantize_mx.on(BACKEND)(x, "mxint8", rounding=rounding, random_bits=bits), want)


@pytest.mark.parametrize(
    "granularity", [PER_TOKEN, per_channel(1), per_group(7), per_group(16), per_group(32), per_block((3, 16))], ids=str
)
@pytest.mark.parametrize("symmetric", [True, False])
def test_scaled_integers_have_the_bits_of_the_reference(granularity: Granularity, symmetric: bool) -> None:
    x = torch.randn(11, 50, generator=torch.Generator().manual_seed(1))
    fmt = "int4" if symmetric else "uint4"
    want = ops.quantize_affine(x, fmt, granularity=granularity, symmetric=symmetric)
    found = ops.quantize_affine.on(BACKEND)(x, fmt, granularity=granularity, symmetric=symmetric)
    for got, one in zip(found, want, strict=True):
        assert_same_bits(got, one)
    back = ops.dequantize_affine(*want, granularity=granularity)
    assert_same_bits(ops.dequantize_affine.on(BACKEND)(*want, granularity=granularity), back)
    fused = ops.fake_quantize_affine.on(BACKEND)(x, fmt, granularity=granularity, symmetric=symmetric)
    assert_same_bits(fused, back)


@pytest.mark.parametrize("rule", [ScaleRule.DIVIDE, ScaleRule.RCEIL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_scales_that_a_tile_finds_are_those_of_the_reference(rule: ScaleRule, dtype: torch.dtype) -> None:
    x, groups = values(7, 3, 72).to(dtype), per_group(32)
    want = ops.quantize_float(x, "e4m3fn", granularity=groups, rule=rule)
    for got, one in zip(ops.quantize_float.on(BACKEND)(x, "e4m3fn", granularity=groups, rule=rule), want, strict=True):
        assert_same_bits(got, one)
    assert_same_bits(ops.compute_scale.on(BACKEND)(x, "e4m3fn", groups, rule=rule), want[1])
    back = ops.fake_quantize_float(x, "e4m3fn", granularity=groups, rule=rule)
    assert_same_bits(ops.fake_quantize_float.on(BACKEND)(x, "e4m3fn", granularity=groups, rule=rule), back)


FUSED = [(ops.cast, "e5m2"), (ops.fake_quantize_mx, "mxfp8_e4m3"), (ops.fake_quantize_float, "e4m3fn")]


@pytest.mark.parametrize(("op", "fmt"), FUSED, ids=str)
@pytest.mark.parametrize("backend", ["reference", BACKEND], ids=["reference", "cpu"])
def test_results_go_in_place_or_into_memory_of_their_own(op: Op, fmt: str, backend: str) -> None:
    x = torch.randn(6, 70, generator=torch.Generator().manual_seed(2))
    run: Callable[..., Tensor] = op.on(backend)
    want = op(x, fmt)
    out = torch.full((6, 140), torch.nan)
    assert run(x, fmt, out=out[:, ::2]).data_ptr() == out.data_ptr()
    assert_same_bits(out[:, ::2].contiguous(), want)
    assert out[:, 1::2].isnan().all()
    with pytest.raises(ValueError, match="out must be x, or share no memory with it"):
        run(x[:3], fmt, out=x[1:4])
    with pytest.raises(ValueError, match=r"out must have the shape \(6, 70\)"):
        run(x, fmt, out=x[:3])
    with pytest.raises(TypeError, match="out must have the dtype of x"):
        run(x, fmt, out=x.double())
    assert run(x, fmt, out=x) is x
    assert_same_bits(x, want)


def test_tensors_with_strides_are_read_as_they_are() -> None:
    x = values(40, 66).mT
    assert_same_bits(ops.cast.on(BACKEND)(x, "e4m3fn"), ops.cast(x, "e4m3fn"))
    assert_same_bits(ops.fake_quantize_mx.on(BACKEND)(x, "mxfp4"), ops.fake_quantize_mx(x, "mxfp4"))
    finite, blocks = torch.randn(40, 66).mT, per_block((16, 16))
    got = ops.fake_quantize_float.on(BACKEND)(finite, "e4m3fn", granularity=blocks)
    assert_same_bits(got, ops.fake_quantize_float(finite, "e4m3fn", granularity=blocks))


def test_threads_of_the_caller_do_not_disturb_each_other() -> None:
    x = values(1 << 18)
    want, run = ops.cast(x, "e4m3fn"), ops.cast.on(BACKEND)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: run(x, "e4m3fn"), range(8)):
            assert_same_bits(got, want)


def test_a_nan_without_a_code_is_refused() -> None:
    with pytest.raises(NanError, match="float4_e2m1fn has no NaN"):
        ops.cast.on(BACKEND)(torch.tensor([1.0, torch.nan]), "e2m1")


def test_what_a_kernel_can_not_do_is_declined_with_the_reason() -> None:
    why_not = BACKEND.kernels["encode"].why_not
    assert why_not(torch.empty(2, device="meta"), "e2m1") == "it takes tensors on the CPU, got x on meta"
    with pytest.raises(UnsupportedError, match="those of nf4 are places in a list"):
        ops.encode.on(BACKEND)(torch.ones(2), "nf4")
    with pytest.raises(UnsupportedError, match="quotient"):
        ops.quantize_float.on(BACKEND)(torch.ones(2).bfloat16(), "e4m3fn", quotient=QuotientDtype.INPUT)


def test_a_thread_that_flushes_subnormals_is_refused() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        with pytest.raises(FlushDenormalError, match="set_flush_denormal"):
            ops.cast.on(BACKEND)(torch.ones(3), "e4m3fn")
    finally:
        torch.set_flush_denormal(False)


def test_machine_code_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(code, "_loaded", code._Loaded())
    x = torch.ones(3)
    assert torch.equal(ops.cast.on(BACKEND)(x, "float8_e3m4"), x)
    (entry,) = (tmp_path / "incref" / "cpu").iterdir()
    before = entry.stat().st_mtime_ns
    monkeypatch.setattr(code, "_loaded", code._Loaded())
    monkeypatch.setattr(kernel, "module_text", None)
    assert torch.equal(ops.cast.on(BACKEND)(x, "float8_e3m4"), x)
    assert entry.stat().st_mtime_ns == before
