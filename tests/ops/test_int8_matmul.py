"""`int8_matmul` against the oracle."""

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits, data_of
from incref.conformance.matmul_judge import judged_matmul, scales_of_elements
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel, per_group
from incref.ops import int8_matmul

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def codes(*shape: int, dtype: torch.dtype = torch.int8, seed: int = 0) -> Tensor:
    info = torch.iinfo(dtype)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(info.min, info.max + 1, shape, generator=generator).to(dtype)


def scale(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) / 7


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
def test_sums_are_exact(dtype: torch.dtype) -> None:
    x, w = codes(2, 5, 700, dtype=dtype), codes(9, 700, seed=1)
    assert_same_bits(int8_matmul(x, w), (x.long() @ w.long().T).to(torch.int32))
    zero = torch.tensor([[[3], [-128], [127], [0], [77]]] * 2, dtype=torch.int32)
    if dtype is torch.uint8:
        zero = zero.clamp(min=0) * 2
    got = int8_matmul(x, w, x_zero_point=zero, x_granularity=PER_TOKEN)
    assert_same_bits(got, ((x.long() - zero) @ w.long().T).to(torch.int32))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
def test_sums_with_zero_points_of_weights_are_exact(dtype: torch.dtype) -> None:
    x, w = codes(2, 5, 700, dtype=dtype), codes(9, 700, seed=1)
    w_zero = codes(9, 1, seed=2).to(torch.int32)
    x_zero = codes(dtype=dtype, seed=3).to(torch.int32)
    want = ((x.long() - x_zero) @ (w.long() - w_zero).T).to(torch.int32)
    assert_same_bits(int8_matmul(x, w, x_zero_point=x_zero, w_zero_point=w_zero, w_granularity=PER_TOKEN), want)
    want = (x.long() @ (w.long() - 7).T).to(torch.int32)
    assert_same_bits(int8_matmul(x, w, w_zero_point=torch.tensor(7, dtype=torch.int32)), want)


@pytest.mark.parametrize("order", ScaleOrder)
def test_scales_with_zero_points_of_weights(order: ScaleOrder) -> None:
    x, w, w_zero = codes(4, 300), codes(5, 300, seed=1), codes(5, 1, seed=2).to(torch.int32)
    x_scale, w_scale = scale(), scale(5, 1, seed=1)
    got = int8_matmul(x, w, x_scale, w_scale, w_zero_point=w_zero, w_granularity=PER_TOKEN, order=order)
    want = judged_matmul(
        x.double(),
        w.double() - w_zero,
        scales_of_elements(x_scale, x.shape, PER_TENSOR),
        scales_of_elements(w_scale, w.shape, PER_TOKEN),
        order=order,
        stretch=300,
        bias=None,
        dtype=torch.float32,
    )
    assert_same_bits(got, want)


@pytest.mark.parametrize("order", ScaleOrder)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scales_and_bias(dtype: torch.dtype, order: ScaleOrder) -> None:
    x, w, bias = codes(4, 300), codes(5, 300, seed=1), scale(5, seed=4) * 1000 - 70
    zero = torch.tensor(-5, dtype=torch.int32)
    for x_scale, w_scale, one_bias, zero_point in (
        (scale(4, 1), scale(5, 1, seed=1), None, None),
        (scale(4, 1), scale(5, 1, seed=1), bias, None),
        (scale(4, 1), scale(5, 1, seed=1), bias.to(torch.bfloat16), zero.expand(4, 1)),
        (None, scale(5, 1, seed=1), None, None),
        (scale(4, 1), None, None, zero.expand(4, 1)),
        (None, None, bias, None),
    ):
        got = int8_matmul(
            x,
            w,
            x_scale,
            w_scale,
            x_zero_point=zero_point,
            x_granularity=PER_TOKEN,
            w_granularity=PER_TOKEN,
            bias=one_bias,
            order=order,
            dtype=dtype,
        )
        want = judged_matmul(
            x.double() - (0 if zero_point is None else -5),
            w.double(),
            scales_of_elements(x_scale, x.shape, PER_TOKEN),
            scales_of_elements(w_scale, w.shape, PER_TOKEN),
            order=order,
            stretch=300,
            bias=one_bias,
            dtype=dtype,
        )
        assert_same_bits(got, want)


def test_one_scale_for_all_and_codes_of_powers_of_two() -> None:
    x, w = codes(4, 30), codes(5, 30, seed=1)
    for x_scale, w_scale, granularity in (
        (torch.tensor(0.3), torch.tensor(0.7), PER_TENSOR),
        (torch.tensor(0.3, dtype=torch.bfloat16), scale(5, 1).half(), PER_TOKEN),
        (
            torch.tensor(100, dtype=torch.uint8),
            torch.tensor([[120], [0], [254], [255], [127]], dtype=torch.uint8),
            PER_TOKEN,
        ),
    ):
        got = int8_matmul(x, w, x_scale, w_scale, w_granularity=granularity)
        want = judged_matmul(
            x.double(),
            w.double(),
            scales_of_elements(x_scale, x.shape, PER_TENSOR),
            scales_of_elements(w_scale, w.shape, granularity),
            order=ScaleOrder.X_THEN_W,
            stretch=30,
            bias=None,
            dtype=torch.float32,
        )
        assert_same_bits(got, want)


def test_special_scales() -> None:
    x, w = torch.tensor([[1, 1], [1, -1]], dtype=torch.int8), torch.tensor([[1, 1]], dtype=torch.int8)
    got = int8_matmul(x, w, torch.tensor(torch.inf), torch.tensor(1.0))
    assert_same_bits(got, torch.tensor([[torch.inf], [torch.nan]]))
    assert int8_matmul(x, w, torch.tensor(torch.nan)).isnan().all()
    assert int8_matmul(x, w, torch.tensor(2.0**127), torch.tensor(2.0), dtype=torch.float16)[0].item() == torch.inf


def test_golden_roundings() -> None:
    x, w = torch.full((1, 1032), 127, dtype=torch.int8), torch.full((1, 1032), 127, dtype=torch.int8)
    x[0, 0], w[0, 0] = 1, 0
    # 1031 * 127**2 is below 2**24, 2047 * 127**2 + 2 above 2**24 and odd.
    assert int8_matmul(x, w).item() == 16_628_999
    assert data_of(int8_matmul(x, w, torch.tensor(1.0)))[0].value == 16_628_999
    x, w = (torch.full((1, 2048), 127, dtype=torch.int8) for _ in range(2))
    x[0, 0], w[0, 0] = 1, 2
    assert int8_matmul(x, w).item() == 33_016_065
    assert int8_matmul(x, w, torch.tensor(1.0)).item() == 33_016_064


@pytest.mark.parametrize(
    ("dtype", "has_zero_point", "most"),
    [(torch.int8, False, 131071), (torch.uint8, False, 65793), (torch.int8, True, 65793)],
)
def test_sums_that_might_leave_int32_are_refused(dtype: torch.dtype, has_zero_point: bool, most: int) -> None:
    zero = torch.tensor(1, dtype=torch.int32) if has_zero_point else None
    x, w = torch.zeros(1, most, dtype=dtype), torch.zeros(1, most, dtype=torch.int8)
    assert int8_matmul(x, w, x_zero_point=zero).item() == 0
    x, w = torch.zeros(1, most + 1, dtype=dtype), torch.zeros(1, most + 1, dtype=torch.int8)
    with pytest.raises(ValueError, match=f"K must be at most {most}, so that no sum leaves int32, got {most + 1}"):
        int8_matmul(x, w, x_zero_point=zero)


def test_sums_with_zero_points_on_both_sides_have_a_limit_of_their_own() -> None:
    zero = torch.tensor(1, dtype=torch.int32)
    x, w = (torch.zeros(1, (2**31 - 1) // 255**2 + 1, dtype=torch.int8) for _ in range(2))
    with pytest.raises(ValueError, match="K must be at most 33025, so that no sum leaves int32, got 33026"):
        int8_matmul(x, w, x_zero_point=zero, w_zero_point=zero)


def test_no_rows_and_no_columns() -> None:
    x, w = codes(3, 8), codes(4, 8)
    assert int8_matmul(x[:0], w).shape == (0, 4)
    assert int8_matmul(x[:, :0], w[:, :0], torch.tensor(1.0), dtype=torch.bfloat16).tolist() == [[0.0] * 4] * 3
    assert_same_bits(int8_matmul(x[0], w), (x[0].long() @ w.long().T).to(torch.int32))


def test_wrong_arguments_are_refused() -> None:
    x, w, one = codes(3, 8), codes(4, 8), torch.tensor(1.0)
    with pytest.raises(
        TypeError, match=r"x must be torch\.int8 or torch\.uint8 and w torch\.int8, got torch\.int8 and torch\.uint8"
    ):
        int8_matmul(x, w.view(torch.uint8))
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., K\] and w \[N, K\], got \(3, 8\) and \(8, 4\)"):
        int8_matmul(x, w.T)
    with pytest.raises(ValueError, match=r"the x_scale of a tensor of shape \(3, 8\).* \(\), got \(3, 1\)"):
        int8_matmul(x, w, torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"w_scale must not differ along K, got blocks of \(1, 4\)"):
        int8_matmul(x, w, one, torch.ones(4, 2), w_granularity=per_group(4))
    with pytest.raises(TypeError, match=r"x_zero_point must be torch\.int32, got torch\.int64"):
        int8_matmul(x, w, x_zero_point=torch.tensor(1))
    with pytest.raises(ValueError, match=r"x_zero_point must be a code of x, -128 to 127, got 200 to 200"):
        int8_matmul(x, w, x_zero_point=torch.tensor(200, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"w_zero_point must be a code of w, -128 to 127, got -129 to -129"):
        int8_matmul(x, w, w_zero_point=torch.tensor(-129, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"bias must have the shape \(4,\), one for each row of w, got \(3,\)"):
        int8_matmul(x, w, bias=torch.zeros(3))
    with pytest.raises(
        TypeError, match=r"dtype must be torch\.float32, torch\.bfloat16 or torch\.float16, got torch\.float64"
    ):
        int8_matmul(x, w, one, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"torch\.float64"):
        int8_matmul(x, w, one.double())


@pytest.mark.parametrize("granularity", [PER_TOKEN, per_channel(0)], ids=str)
def test_views(granularity: Granularity) -> None:
    x, w = codes(8, 40)[::2, ::2], codes(20, 6).T
    got = int8_matmul(x, w, scale(4, 1), scale(6, 1), x_granularity=granularity, w_granularity=granularity)
    again = int8_matmul(
        x.contiguous(), w.contiguous(), scale(4, 1), scale(6, 1), x_granularity=granularity, w_granularity=granularity
    )
    assert_same_bits(got, again)
