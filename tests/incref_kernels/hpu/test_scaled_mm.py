"""PyTorch's own product on a simulated Gaudi obeys the contract of `fp8_matmul`."""

import pytest
import torch

from incref.backends.backend import Backend
from incref.conformance.implementation import Implementation
from incref.conformance.judge import assert_same_bits
from incref.conformance.result import Status
from incref.conformance.run import run
from incref.errors import UnsupportedError
from incref.formats.gaudi import GAUDI
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel
from incref.ops import fp8_matmul, quantize_float
from incref_kernels.hpu import BACKEND
from incref_kernels.hpu.available import why_unavailable
from incref_kernels.hpu.scaled_mm import KERNEL
from incref_kernels.hpu.simulator.simulate import simulate

PYTORCH = Backend(name="pytorch", why_unavailable=why_unavailable, kernels={"fp8_matmul": KERNEL})


@pytest.mark.parametrize("chip", GAUDI)
def test_it_passes_the_suite(chip: str) -> None:
    with simulate(chip):
        outcome = run(Implementation.of_backend(PYTORCH), level=1, ops=["fp8_matmul"])
    assert outcome.counts[Status.FAIL] == outcome.counts[Status.ERROR] == 0, outcome.results
    assert outcome.counts[Status.PASS] > 20


@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
@pytest.mark.parametrize(("x_shares", "w_shares"), [(PER_TENSOR, PER_TENSOR), (PER_TOKEN, per_channel())])
@pytest.mark.parametrize("chip", GAUDI)
def test_it_gives_the_bits_of_the_other_operator(
    chip: str, x_shares: Granularity, w_shares: Granularity, mode: str
) -> None:
    fmt = GAUDI[chip].e4m3.name
    generator = torch.Generator().manual_seed(0)
    x, x_scale = quantize_float(torch.randn(2, 5, 33, generator=generator), fmt, granularity=x_shares)
    w, w_scale = quantize_float(torch.randn(7, 33, generator=generator), fmt, granularity=w_shares)
    options = {"x_granularity": x_shares, "w_granularity": w_shares, "bias": torch.arange(7.0), "dtype": torch.bfloat16}
    with simulate(chip, mode=mode):
        one, other = (
            fp8_matmul.on(backend)(x, w, x_scale, w_scale, x_fmt=fmt, w_fmt=fmt, **options)
            for backend in (BACKEND, PYTORCH)
        )
    assert_same_bits(one, other)


def test_what_it_cannot_do_is_declined() -> None:
    codes, one, rows = torch.zeros(8, 16, dtype=torch.uint8), torch.ones(()), torch.ones(8, 1)
    formats = {"x_fmt": "float8_e4m3", "w_fmt": "float8_e4m3"}
    with simulate("gaudi2"):
        with pytest.raises(UnsupportedError, match="needs a scale for either factor"):
            fp8_matmul.on(PYTORCH)(codes, codes, one, None, **formats)
        with pytest.raises(UnsupportedError, match="one scale, or one for each row, got one scale a row and one scale"):
            fp8_matmul.on(PYTORCH)(codes, codes, rows, one, x_granularity=PER_TOKEN, **formats)
        with pytest.raises(UnsupportedError, match="gaudi2 has float8_e4m3 and float8_e5m2"):
            fp8_matmul.on(PYTORCH)(codes, codes, one, one, x_fmt="float8_e4m3fn", w_fmt="float8_e4m3fn")
