"""Results of 16 bits whose exact value lies so close to the middle of two that a first rounding would hide it."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from incref_kernels.triton.native.native import native


@triton.jit
def cast_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at).to(y.dtype.element_ty))


@triton.jit
def fma_kernel(a, b, c, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.fma(tl.load(a + at), tl.load(b + at), tl.load(c + at)))


def cast(x: Tensor, target: torch.dtype) -> list[float]:
    y = torch.zeros(len(x), dtype=target)
    native(cast_kernel)[1](x, y, N=len(x))
    return y.tolist()


@pytest.mark.parametrize(("target", "digits"), [(torch.float16, 10), (torch.bfloat16, 7)])
def test_double_is_rounded_once(target: torch.dtype, digits: int) -> None:
    unit = 2.0**-digits
    middle = 1 + unit / 2
    x = torch.tensor([middle, middle + 2.0**-50, middle - 2.0**-50, -middle - 2.0**-50], dtype=torch.float64)
    assert cast(x, target) == [1, 1 + unit, 1, -1 - unit]


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16])
def test_double_keeps_what_is_special(target: torch.dtype) -> None:
    least = torch.finfo(target).smallest_normal * torch.finfo(target).eps
    x = torch.tensor([float("inf"), -float("inf"), 1e300, -0.0, least, least / 2, least * 0.50001, 1e-300])
    x = x.to(torch.float64)
    x[2], x[7] = 1e300, 1e-300
    assert cast(x, target) == [float("inf"), -float("inf"), float("inf"), 0, least, 0, least, 0]
    assert str(cast(-torch.zeros(2, dtype=torch.float64), target)[0]) == "-0.0"
    assert str(cast(torch.full((2,), float("nan"), dtype=torch.float64), target)[0]) == "nan"


def around_the_middle(bits: int) -> tuple[Tensor, int]:
    """Integers at and next to the middle of two bfloat16, of which the lower one is `unit * 128`; and `unit`."""
    unit = 1 << bits - 9
    middle = 257 * (unit >> 1)
    return torch.tensor([middle, middle + 1, middle - 1, 0]), unit


@pytest.mark.parametrize(("dtype", "bits"), [(torch.uint64, 62), (torch.uint32, 32), (torch.uint16, 16)])
def test_unsigned_integers_become_the_nearest_bfloat16(dtype: torch.dtype, bits: int) -> None:
    x, unit = around_the_middle(bits)
    assert cast(x.to(dtype), torch.bfloat16) == [128 * unit, 129 * unit, 128 * unit, 0]


@pytest.mark.parametrize(("dtype", "bits"), [(torch.int64, 62), (torch.int32, 31)])
def test_signed_integers_become_bfloat16_by_way_of_float32(dtype: torch.dtype, bits: int) -> None:
    """Triton writes two conversions, so that is what a GPU runs: what is next to a middle is at it in float32."""
    x, unit = around_the_middle(bits)
    assert cast(x.to(dtype), torch.bfloat16) == [128 * unit, 128 * unit, 128 * unit, 0]


@pytest.mark.parametrize("dtype", [torch.int16, torch.int8, torch.uint8])
def test_integers_that_float32_holds_are_rounded_once(dtype: torch.dtype) -> None:
    bits = min(torch.iinfo(dtype).bits, 15)
    x, unit = around_the_middle(bits) if bits > 9 else (torch.tensor([101, 102, 100, 0]), 1)
    want = [128 * unit, 129 * unit, 128 * unit, 0] if bits > 9 else [101, 102, 100, 0]
    assert cast(x.to(dtype), torch.bfloat16) == want


def test_a_fused_product_of_bfloat16_is_rounded_once() -> None:
    # 7/4 * 37/64 lies in the middle of two; what is added is far below the digits of a double.
    a, b = torch.full((4,), 1.75).bfloat16(), torch.full((4,), 37 / 64).bfloat16()
    c = torch.tensor([0, 2.0**-100, -(2.0**-100), float("inf")]).bfloat16()
    y = torch.zeros(4, dtype=torch.bfloat16)
    native(fma_kernel)[1](a, b, c, y, N=4)
    assert y.tolist() == [1 + 4 / 256, 1 + 4 / 256, 1 + 2 / 256, float("inf")]


def test_a_fused_product_of_float16_is_rounded_once() -> None:
    a, b = torch.full((4,), 1 + 2.0**-10).half(), torch.full((4,), 1 + 2.0**-10).half()
    # The square is 1 + 2**-9 + 2**-20; with -1 it lies in the middle of 2**-9 and the next, 2**-9 + 2**-19.
    c = torch.tensor([0, -1, -1 - 2.0**-9, 65504]).half()
    y = torch.zeros(4, dtype=torch.float16)
    native(fma_kernel)[1](a, b, c, y, N=4)
    assert y.tolist() == [1 + 2.0**-9, 2.0**-9, 2.0**-20, 65504]
