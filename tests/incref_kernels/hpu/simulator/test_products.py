"""Products of 8-bit floats, their sums and what follows."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats.gaudi import GAUDI
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_channel
from incref.ops import fp8_matmul, quantize_float
from incref_kernels.hpu.simulator.options import Scaling, Sums
from incref_kernels.hpu.simulator.simulate import simulate

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def draw(*shape: int, dtype: torch.dtype = E4M3, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gemm(a: Tensor, b: Tensor, *rest: object, out: torch.dtype = torch.float32, **options: object) -> Tensor:
    return torch.ops.hpu.fp8_gemm_v2(a, False, b, True, None, out, *rest, **options)


@pytest.mark.parametrize("sums", Sums)
@pytest.mark.parametrize("chip", ["gaudi2", "gaudi3"])
def test_small_integers_are_added_alike(chip: str, sums: Sums) -> None:
    a, b = (torch.randint(-8, 9, (5, 40), generator=torch.Generator().manual_seed(s)).float() for s in (0, 1))
    with simulate(chip, sums=sums):
        assert torch.equal(gemm(a.to(E4M3), b.to(E4M3)), a @ b.T)


def test_steps_lose_what_exact_sums_keep() -> None:
    # 2**14 and 2**-12: 26 bits apart, and the unit of Gaudi keeps 24 below the largest term of a step.
    a = torch.tensor([[128.0, 2.0**-6, -128.0]]).to(E4M3)
    b = torch.tensor([[128.0, 2.0**-6, 128.0]]).to(E4M3)
    for chip in ("gaudi2", "gaudi3"):
        with simulate(chip):
            assert gemm(a, b).item() == 2.0**-12
        with simulate(chip, sums=Sums.STEPS):
            assert gemm(a, b).item() == 0.0


def test_scales_of_every_form() -> None:
    a, b = draw(3, 16), draw(8, 16, seed=1)
    product = (a.double() @ b.double().T).float()
    rows, columns = torch.tensor([[2.0], [3.0], [5.0]]), torch.arange(1.0, 9.0)
    with simulate("gaudi3"):
        assert torch.equal(gemm(a, b), product)
        assert torch.equal(gemm(a, b, torch.tensor(3.0), torch.tensor([0.5])), product * 1.5)
        assert torch.equal(gemm(a, b, 3.0, 0.5), product * 1.5)
        assert torch.equal(gemm(a, b, rows, columns), product * (rows * columns))
        assert torch.equal(gemm(a, b, [3.0], columns.tolist(), B_scale_shape=[1, 8]), product * (3 * columns))
        tall = torch.ops.hpu.fp8_gemm_v2.scalar_list(
            a, False, b, True, None, torch.float32, [1.0], [2.0, 3.0, 5.0], B_scale_shape=[3, 1]
        )
        assert torch.equal(tall, product * rows)


def test_what_is_transposed_and_batched() -> None:
    a, b = draw(2, 1, 4, 16), draw(1, 3, 16, 8, seed=1)
    want = (a.double() @ b.double()).float()
    with simulate("gaudi2"):
        call = torch.ops.hpu.fp8_gemm_v2
        assert torch.equal(call(a, False, b, False, None, torch.float32), want)
        assert torch.equal(call(a.mT.contiguous(), True, b.mT.contiguous(), True, None, torch.float32), want)
        one, other = draw(16), draw(16, seed=2)
        assert call(one, False, other, False, None, torch.float32) == (one.double() @ other.double()).float()
        assert call(draw(0, 3, 4), False, draw(0, 4, 2), False, None, torch.float32).shape == (0, 3, 2)


def test_bias_and_accumulation() -> None:
    a, b, bias, d = draw(3, 16), draw(8, 16, seed=1), torch.arange(8.0), torch.full((3, 8), 0.5)
    product = (a.double() @ b.double().T).float()
    with simulate("gaudi2"):
        call = torch.ops.hpu.fp8_gemm_v2
        assert torch.equal(call(a, False, b, True, d, torch.float32, None, None, bias, True), product + bias + d)
        assert torch.equal(call(a, False, b, True, d, torch.float32, None, None, bias, False), product + bias)
        out = torch.empty(3, 8)
        torch.ops.hpu.fp8_gemm(a, False, b, True, d, torch.float32, None, None, bias, True, out)
        assert torch.equal(out, product + bias + d)
        with pytest.raises(ValueError, match="accumulate=True adds D, which is None"):
            gemm(a, b, accumulate=True)


def test_where_scales_enter() -> None:
    a, b = draw(3, 64), draw(8, 64, seed=1)
    acc, scale = (a.double() @ b.double().T).float(), torch.tensor(1.3)
    with simulate("gaudi2"):
        assert torch.equal(gemm(a, b, scale, out=torch.bfloat16), (acc * scale).bfloat16())
    with simulate("gaudi2", scaling=Scaling.AFTER_ROUNDING):
        late = gemm(a, b, scale, out=torch.bfloat16)
    assert torch.equal(late, acc.bfloat16() * scale.bfloat16())
    assert not torch.equal(late, (acc * scale).bfloat16())


def test_results_of_8_bits() -> None:
    a = torch.full((1, 1), 120.0).to(E4M3)
    for chip, options, wanted in (
        ("gaudi2", {}, 0x77),
        ("gaudi3", {}, 0x7E),
        ("gaudi3", {"mme_e4m3": "float8_e4m3"}, 0x77),
        ("gaudi2", {"mme_clips": False}, 0x78),
    ):
        with simulate(chip, **options):
            assert int(gemm(a, a, out=E4M3).view(torch.uint8)) == wanted


def test_codes_beyond_240_are_no_numbers_on_gaudi_2() -> None:
    a, one = torch.tensor([[448.0]]).to(E4M3), torch.tensor([[1.0]]).to(E4M3)
    with simulate("gaudi3"):
        assert gemm(a, one).item() == 448.0
    with simulate("gaudi2"):
        assert gemm(a, one).isnan().all()
    with simulate("gaudi3", mme_e4m3="float8_e4m3"):
        assert gemm(a, one).isnan().all()


def test_mixed_formats() -> None:
    a, b = draw(3, 16), draw(8, 16, dtype=E5M2)
    with simulate("gaudi3"):
        assert torch.equal(gemm(a, b), (a.double() @ b.double().T).float())
    with simulate("gaudi2"), pytest.raises(UnsupportedError, match="gaudi2 has no product of"):
        gemm(a, b)
    with simulate("gaudi2"), pytest.raises(TypeError, match=r"B must be torch\.float8_e4m3fn or torch\.float8_e5m2"):
        gemm(a, torch.ones(8, 16))


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    x, w, bias = draw(2, 4, 7, 6), draw(6, 4 // groups, 3, 2, seed=1), torch.arange(6.0)
    with simulate("gaudi2"):
        found = torch.ops.hpu.conv2d_fp8(x, w, bias, [2, 1], [1, 0], [1, 2], groups, torch.float32)
        want = F.conv2d(x.double(), w.double(), None, (2, 1), (1, 0), (1, 2), groups).float() + bias[:, None, None]
        assert torch.equal(found, want)
        half = torch.ops.hpu.conv2d_fp8.scalar(x, w, None, groups=groups, scale_input=2.0, scale_weight=0.25)
        assert torch.equal(half, (F.conv2d(x.double(), w.double(), groups=groups).float() * 0.5).bfloat16())
        rows = torch.arange(1.0, 7.0)
        scaled = torch.ops.hpu.conv2d_fp8(x, w, None, groups=groups, out_dtype=torch.float32, scale_weight=rows)
        assert torch.equal(scaled, F.conv2d(x.double(), w.double(), groups=groups).float() * rows[:, None, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chip", GAUDI)
@pytest.mark.parametrize("has_rows", [True, False])
def test_the_product_of_pytorch_is_the_contracts(chip: str, dtype: torch.dtype, *, has_rows: bool) -> None:
    e4m3 = GAUDI[chip].e4m3.name
    shares = (PER_TOKEN, per_channel()) if has_rows else (PER_TENSOR, PER_TENSOR)
    generator = torch.Generator().manual_seed(0)
    x, x_scale = quantize_float(torch.randn(16, 96, generator=generator), e4m3, granularity=shares[0])
    w, w_scale = quantize_float(torch.randn(32, 96, generator=generator), e4m3, granularity=shares[1])
    options = {"x_granularity": shares[0], "w_granularity": shares[1]}
    want = fp8_matmul(x, w, x_scale, w_scale, x_fmt=e4m3, w_fmt=e4m3, dtype=dtype, **options)
    one, other = (codes.view(torch.float8_e4m3fn) for codes in (x, w))
    # The largest code is 448 to PyTorch, and NaN to Gaudi 2.
    top = torch.full((16, 16), 0x7E, dtype=torch.uint8).view(torch.float8_e4m3fn)
    unit = torch.ones(())
    before = torch._scaled_mm(top, top.t(), unit, unit, out_dtype=torch.float32)
    with simulate(chip):
        found = torch._scaled_mm(one, other.t(), x_scale, w_scale.view(1, -1) if has_rows else w_scale, out_dtype=dtype)
        assert torch._scaled_mm(top, top.t(), unit, unit, out_dtype=torch.float32).isnan().all() == (chip == "gaudi2")
        with pytest.raises(UnsupportedError, match="leave it out"):
            torch._scaled_mm(one, other.t(), unit, unit, scale_result=unit, out_dtype=dtype)
    assert_same_bits(found, want)
    assert torch.equal(torch._scaled_mm(top, top.t(), unit, unit, out_dtype=torch.float32), before)
