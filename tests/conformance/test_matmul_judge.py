"""Products of whole matrices as the oracle's scalar definition has them."""

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import LAYOUTS, assert_same_bits, data_of, values_of
from incref.conformance.matmul_judge import judged_matmul
from incref.formats import ScaleOrder
from incref.oracle.scaled_dot import scaled_dot

M, N, K, STRETCH = 3, 2, 10, 4


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def in_stretches(rows: int, seed: int) -> Tensor:
    return draw(rows, -(-K // STRETCH), seed=seed).repeat_interleave(STRETCH, 1)[:, :K]


@pytest.mark.parametrize("has_scales", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("order", ScaleOrder)
def test_every_element_is_the_scaled_dot_of_the_oracle(order: ScaleOrder, *, has_bias: bool, has_scales: bool) -> None:
    x, w = draw(M, K, seed=0), draw(N, K, seed=1)
    x[0, 0], w[1, 3] = torch.inf, torch.nan
    x_scale, w_scale = in_stretches(M, 2), in_stretches(N, 3)
    bias = draw(N, seed=4) if has_bias else None
    biases = [None] * N if bias is None else data_of(bias)
    for left, right in ((x_scale, w_scale), (x_scale, None), (None, w_scale)) if has_scales else ((None, None),):
        left_data, right_data = (
            [[None] * K] * len(one) if scale is None else [data_of(row) for row in scale]
            for one, scale in ((x, left), (w, right))
        )
        for dtype in (torch.float32, torch.bfloat16):
            want = [
                scaled_dot(
                    list(zip(data_of(x[m]), left_data[m], strict=True)),
                    list(zip(data_of(w[n]), right_data[n], strict=True)),
                    order=order,
                    stretch=STRETCH,
                    bias=biases[n],
                    to=LAYOUTS[dtype],
                )
                for m in range(M)
                for n in range(N)
            ]
            got = judged_matmul(x, w, left, right, order=order, stretch=STRETCH, bias=bias, dtype=dtype)
            assert_same_bits(got, values_of(want, dtype).view(M, N), note=(dtype, left is None, right is None))


def test_products_with_scales_that_float64_cannot_hold_are_refused() -> None:
    x = torch.full((1, 1), 1 + 2.0**-40, dtype=torch.float64)
    with pytest.raises(AssertionError, match="products of 82 bits are not exact in float64"):
        judged_matmul(x, x, x, None, order=ScaleOrder.EXACT, stretch=1, bias=None, dtype=torch.float32)
