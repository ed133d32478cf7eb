"""Kernels of products: the contracts' bits with exact sums, and probes with the steps of the machine."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from incref.backends.declared import AnyGroups
from incref.conformance.implementation import Implementation
from incref.conformance.judge import assert_same_bits
from incref.conformance.result import Status
from incref.conformance.run import run
from incref.errors import UnsupportedError
from incref.formats import FORMATS, ScaleOrder
from incref.formats.gaudi import GAUDI
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel, per_group
from incref.ops import fp8_bmm, fp8_matmul, pack, quantize_affine, quantize_float, weight_only_matmul
from incref.ops.weight import Weight, prepare
from incref_kernels.hpu import BACKEND
from incref_kernels.hpu.simulator.options import Sums
from incref_kernels.hpu.simulator.simulate import simulate


@pytest.fixture(params=GAUDI)
def e4m3(request: pytest.FixtureRequest) -> Iterator[str]:
    with simulate(request.param):
        yield GAUDI[request.param].e4m3.name


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("x_shares", "w_shares"), [(PER_TENSOR, PER_TENSOR), (PER_TOKEN, per_channel())])
def test_scaled_products(e4m3: str, x_shares: Granularity, w_shares: Granularity, dtype: torch.dtype) -> None:
    x, x_scale = quantize_float(draw(2, 5, 96), e4m3, granularity=x_shares)
    w, w_scale = quantize_float(draw(24, 96, seed=1), e4m3, granularity=w_shares)
    for bias in (None, draw(24, seed=2)):
        options = {"x_granularity": x_shares, "w_granularity": w_shares, "bias": bias, "dtype": dtype}
        arguments = (x, w, x_scale, w_scale)
        want = fp8_matmul(*arguments, x_fmt=e4m3, w_fmt=e4m3, **options)
        assert_same_bits(fp8_matmul.on(BACKEND)(*arguments, x_fmt=e4m3, w_fmt=e4m3, **options), want)


def test_products_without_scales(e4m3: str) -> None:
    x, w = (quantize_float(draw(n, 16, seed=n), e4m3)[0] for n in (3, 5))
    options = {"x_fmt": e4m3, "w_fmt": e4m3}
    assert_same_bits(fp8_matmul.on(BACKEND)(x, w, None, None, **options), fp8_matmul(x, w, None, None, **options))
    empty = fp8_matmul.on(BACKEND)(x[:0], w, None, None, **options)
    assert empty.shape == (0, 5)


@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chip", GAUDI)
def test_batches(chip: str, dtype: torch.dtype, mode: str) -> None:
    fmt = GAUDI[chip].e4m3.name
    x, x_scale = quantize_float(draw(2, 1, 5, 33), fmt)
    y, y_scale = quantize_float(draw(3, 6, 33, seed=1).mT, fmt)
    options = {"x_fmt": fmt, "y_fmt": fmt, "dtype": dtype}
    for scales in ((x_scale, y_scale), (None, y_scale), (None, None)):
        want = fp8_bmm(x, y, *scales, **options)
        with simulate(chip, mode=mode):
            assert_same_bits(fp8_bmm.on(BACKEND)(x, y, *scales, **options), want)
            known = BACKEND.with_scales("fp8_bmm", x_scale=scales[0], y_scale=scales[1])
            assert (known is BACKEND) == (None in scales)
            assert_same_bits(fp8_bmm.on(known)(x, y, *scales, **options), want)


def int4(n: int, k: int, group: int, *, is_symmetric: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    fmt = "int4" if is_symmetric else "uint4"
    found = quantize_affine(draw(n, k, seed=3), fmt, granularity=per_group(group), symmetric=is_symmetric)
    return found[0], found[1], found[2] if len(found) > 2 else None


@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [8, 40])
def test_4_bit_weights(n: int, scale_dtype: torch.dtype, *, is_symmetric: bool) -> None:
    codes, scale, zero = int4(n, 64, 16, is_symmetric=is_symmetric)
    scale, fmt = scale.to(scale_dtype), "int4" if is_symmetric else "uint4"
    # A single one in each row selects a row of the weight, so every sum is exact.
    x = torch.eye(64, dtype=torch.bfloat16)
    options = {"granularity": per_group(16)}
    want = weight_only_matmul(x, codes, scale, fmt, zero, **options)
    with simulate("gaudi2"):
        assert_same_bits(weight_only_matmul.on(BACKEND)(x, codes, scale, fmt, zero, **options), want)
        words = pack(codes, fmt, layout=PackLayout.DENSE)
        weight = Weight(
            words=words, scale=scale, zero_point=zero, fmt=FORMATS[fmt], granularity=per_group(16), shape=(n, 64)
        )
        prepared = prepare(weight_only_matmul, BACKEND, weight)
        assert not isinstance(prepared, str)
        assert prepared.tensors[0] is not None
        assert (prepared.tensors[0].shape, prepared.tensors[0].dtype) == ((64, n // 8), torch.int32)
        assert prepared.why_not(*prepared.tensors, x) is None
        assert_same_bits(prepared.run(*prepared.tensors, x), want)


@pytest.mark.parametrize("has_group_index", [True, False])
def test_groups_in_another_order(*, has_group_index: bool) -> None:
    codes, scale, zero = int4(16, 64, 16, is_symmetric=False)
    g_idx = torch.randperm(64, generator=torch.Generator().manual_seed(0)) // 16
    x = torch.eye(64)
    want = weight_only_matmul(x, codes, scale, "uint4", zero, g_idx=g_idx)
    with simulate("gaudi2", has_group_index=has_group_index):
        assert_same_bits(weight_only_matmul.on(BACKEND)(x, codes, scale, "uint4", zero, g_idx=g_idx), want)


def test_8_bit_weights(e4m3: str) -> None:
    codes, scale = quantize_float(draw(24, 32), e4m3, granularity=per_channel())
    x = torch.eye(32, dtype=torch.bfloat16)
    want = weight_only_matmul(x, codes, scale, e4m3, granularity=per_channel())
    assert_same_bits(weight_only_matmul.on(BACKEND)(x, codes, scale, e4m3, granularity=per_channel()), want)
    weight = Weight(words=codes, scale=scale, fmt=FORMATS[e4m3], granularity=per_channel(), shape=(24, 32))
    prepared = prepare(weight_only_matmul, BACKEND, weight)
    assert not isinstance(prepared, str)
    assert_same_bits(prepared.run(*prepared.tensors, x), want)
    bias = draw(24)
    # One sum of a product and the bias, in float32.
    assert_same_bits(prepared.run(*prepared.tensors, x, bias=bias, dtype=torch.float32), want.float() + bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sum_that_is_zero_has_no_sign(dtype: torch.dtype) -> None:
    codes, scale = torch.zeros(8, 1, dtype=torch.uint8), torch.ones(())
    with simulate("gaudi3"):
        y = weight_only_matmul.on(BACKEND)(torch.tensor([[-1.0]], dtype=dtype), codes, scale, "float8_e4m3fn")
    assert not y.signbit().any()


def fp8(**options: object) -> object:
    codes, scale = torch.zeros(8, 16, dtype=torch.uint8), torch.ones(())
    return fp8_matmul.on(BACKEND)(
        codes, codes, scale, scale, **{"x_fmt": "float8_e4m3", "w_fmt": "float8_e4m3", **options}
    )


def bmm(**options: object) -> object:
    codes = torch.zeros(2, 8, 8, dtype=torch.uint8)
    return fp8_bmm.on(BACKEND)(codes, codes, None, None, **{"x_fmt": "float8_e4m3", "y_fmt": "float8_e4m3", **options})


def woq(n: int = 8, fmt: str = "uint4", zero: int = 8, **options: object) -> object:
    codes = torch.zeros(n, 16, dtype=torch.uint8)
    zeros = torch.full((n, 2), zero, dtype=torch.int32)
    options = {"granularity": per_group(8), **options}
    return weight_only_matmul.on(BACKEND)(torch.ones(2, 16), codes, torch.ones(n, 2), fmt, zeros, **options)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: fp8(w_fmt="float8_e5m2"), "gaudi2 has no product of float8_e4m3 and float8_e5m2"),
        (lambda: fp8(x_fmt="float8_e4m3fn", w_fmt="float8_e4m3fn"), "gaudi2 has float8_e4m3 and float8_e5m2"),
        (lambda: fp8(order=ScaleOrder.EXACT), "the scales are multiplied with each other"),
        (lambda: fp8(dtype=torch.float16), "products are torch.float32 or torch.bfloat16, got torch.float16"),
        (lambda: fp8(x_granularity=per_group(8)), "one scale for x, or one for each of its rows, not groups of 8"),
        (lambda: bmm(y_fmt="float8_e5m2"), "gaudi2 has no product of float8_e4m3 and float8_e5m2"),
        (lambda: bmm(order=ScaleOrder.EXACT), "the scales are multiplied with each other"),
        (lambda: bmm(dtype=torch.float16), "products are torch.float32 or torch.bfloat16, got torch.float16"),
        (lambda: woq(n=20), "N must be a multiple of 8, got 20"),
        (lambda: woq(zero=16), "zero points must be codes, from 0 to 15, got 16 to 16"),
        (lambda: woq(fmt="uint2"), "operators dequantize integers of 4 bits and 8-bit floats, got uint2"),
        (lambda: woq(granularity=per_group(6)), "groups lie along K and divide it, got K=16"),
        (lambda: woq(dtype=torch.float16), "dtype must be torch.float32 or torch.bfloat16, got torch.float16"),
    ],
)
def test_what_products_cannot_do_is_declined(call: object, reason: str) -> None:
    with simulate("gaudi2"), pytest.raises(UnsupportedError, match=reason):
        call()  # type: ignore[operator]


def test_4_bit_weights_are_not_dequantized_eagerly() -> None:
    with simulate("gaudi2", mode="eager"), pytest.raises(UnsupportedError, match="runs in the lazy mode, or compiled"):
        woq()


def test_groups_of_different_sizes_need_an_index() -> None:
    g_idx = torch.tensor([0] * 10 + [1] * 6)
    with simulate("gaudi2"), pytest.raises(UnsupportedError, match="without group_index, groups must be of one size"):
        woq(g_idx=g_idx, granularity=PER_TENSOR)


def test_products_declare_the_unit_of_the_chip(e4m3: str) -> None:
    table = Implementation.of_backend(BACKEND).candidates
    group, flushes = (16, True) if e4m3 == "float8_e4m3" else (8, False)
    for op in ("fp8_matmul", "fp8_bmm", "fp8_conv2d"):
        assert table[op].accumulator == AnyGroups(group=group, fraction_bits=24, result_bits=23, flushes=flushes)


@pytest.mark.parametrize("sums", [Sums.EXACT, Sums.STEPS])
@pytest.mark.parametrize("chip", GAUDI)
def test_products_are_within_what_is_declared(chip: str, sums: Sums) -> None:
    with simulate(chip, sums=sums):
        outcome = run(Implementation.of_backend(BACKEND), level=0, ops=["fp8_matmul", "fp8_bmm", "fp8_conv2d"])
    assert outcome.counts[Status.FAIL] == outcome.counts[Status.ERROR] == 0, outcome.results
    assert outcome.counts[Status.PASS] > 5


@pytest.mark.parametrize("chip", GAUDI)
def test_batches_pass_the_suite(chip: str) -> None:
    with simulate(chip):
        outcome = run(Implementation.of_backend(BACKEND), level=1, ops=["fp8_bmm"])
    assert {one.reason for one in outcome.results if one.status.is_bad} == set()
    assert outcome.counts[Status.PASS] > 50


def test_products_of_nothing(e4m3: str) -> None:
    outcome = run(Implementation.of_backend(BACKEND), level=1, ops=["fp8_matmul"], match="*/empty/*")
    assert {one.reason for one in outcome.results if one.status.is_bad} == set(), e4m3
    # Gaudi 2 has another E4M3 than the case.
    done = Status.PASS if e4m3 == "float8_e4m3fn" else Status.NOT_SUPPORTED
    assert [one.status for one in outcome.results] == [done] * 3
