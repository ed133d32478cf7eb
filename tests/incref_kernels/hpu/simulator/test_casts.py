"""Casts multiply in the dtype of the wider side, and round there."""

from collections.abc import Iterator
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

from incref.conformance.samples import random_patterns
from incref.errors import UnsupportedError
from incref.formats.gaudi import GAUDI
from incref_kernels.hpu.simulator.options import Denormals, Inf, Nan, StochasticDenormals
from incref_kernels.hpu.simulator.simulate import simulate

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
# The formats of another library, of which that of Gaudi 2 has the same codes.
WITNESS = {("gaudi2", E4M3): ml_dtypes.float8_e4m3, ("gaudi3", E4M3): ml_dtypes.float8_e4m3fn}
CHIPS = tuple(GAUDI)


@pytest.fixture(params=CHIPS)
def chip(request: pytest.FixtureRequest) -> Iterator[str]:
    with simulate(request.param):
        yield request.param


def cast(x: Tensor, scale: object = None, dtype: torch.dtype = E4M3, **options: object) -> Tensor:
    return torch.ops.hpu.cast_to_fp8_v2(x, scale, False, False, dtype, **options)[0].view(torch.uint8)


def all_bfloat16() -> Tensor:
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return x[x.isfinite()]


def test_the_product_is_rounded_in_the_dtype_of_the_input(chip: str) -> None:
    x, scale = all_bfloat16(), torch.tensor(1.3)
    fmt = WITNESS[chip, E4M3]
    limit = float(ml_dtypes.finfo(fmt).max)
    with np.errstate(over="ignore"):
        product = (x.double() * scale.bfloat16().double()).numpy().astype(ml_dtypes.bfloat16).astype(np.float32)
    want = torch.from_numpy(product.clip(-limit, limit).astype(fmt).view(np.uint8))
    assert torch.equal(cast(x, scale), want)
    once = (x.float() * scale).clamp(-limit, limit).numpy().astype(fmt).view(np.uint8)
    # The share of other codes that rounding twice gives.
    assert 0.001 < (torch.from_numpy(once) != want).double().mean() < 0.05


def test_a_scale_multiplies() -> None:
    with simulate("gaudi3"):
        assert cast(torch.tensor([3.0]), 2.0).tolist() == cast(torch.tensor([6.0])).tolist() == [0x4C]
        back = torch.ops.hpu.cast_from_fp8(cast(torch.tensor([6.0])).view(E4M3), 0.5, torch.float32)
        assert back.tolist() == [3.0]


def test_saturation(chip: str) -> None:
    x = torch.tensor([1e5, -1e5, torch.inf, -torch.inf])
    largest = {"gaudi2": 0x77, "gaudi3": 0x7E}[chip]
    assert cast(x).tolist() == [largest, largest | 0x80] * 2
    assert cast(x, None, E5M2).tolist() == [0x7B, 0xFB] * 2


def test_every_code_is_decoded(chip: str) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.ops.hpu.cast_from_fp8(codes.view(E4M3), None, dtype).float().numpy()
        np.testing.assert_array_equal(values, codes.numpy().view(WITNESS[chip, E4M3]).astype(np.float32))
        values = torch.ops.hpu.cast_from_fp8(codes.view(E5M2), None, dtype).float().numpy()
        np.testing.assert_array_equal(values, codes.numpy().view(ml_dtypes.float8_e5m2).astype(np.float32))


def test_the_way_back_rounds_in_the_dtype_of_the_result(chip: str) -> None:
    codes = torch.arange(0x78, dtype=torch.int32).to(torch.uint8)
    scale = torch.tensor(1.3)
    found = torch.ops.hpu.cast_from_fp8(codes.view(E4M3), scale, torch.bfloat16)
    values = codes.numpy().view(WITNESS[chip, E4M3]).astype(np.float64) * float(scale.bfloat16())
    want = values.astype(np.float32).astype(ml_dtypes.bfloat16)
    assert found.view(torch.int16).tolist() == want.view(np.int16).tolist()


def test_largest_magnitude() -> None:
    x = torch.tensor([[1.0, -5.0]], dtype=torch.bfloat16)
    with simulate("gaudi2"):
        _, amax = torch.ops.hpu.cast_to_fp8_v2(x, 100.0, False, True, E4M3)
        assert (amax.dtype, amax.shape, amax.item()) == (torch.float32, (), 5.0)
        _, none = torch.ops.hpu.cast_to_fp8_v2(x, 100.0, False, False, E4M3)
        assert (none.dtype, none.shape) == (torch.float32, (0,))
        wide, narrow, amax = torch.ops.hpu.cast_to_fp8_hybrid(x, torch.tensor(2.0), None, False, True)
        assert (wide.dtype, narrow.dtype, amax.item()) == (E5M2, E4M3, 5.0)
        assert wide.float().tolist() == [[2.0, -10.0]]
        empty = torch.ops.hpu.cast_to_fp8_v2(torch.empty(0, 3), None, False, True, E4M3)
        assert (empty[0].shape, empty[1].item()) == ((0, 3), 0.0)


def test_scales_of_rows_and_columns() -> None:
    x = torch.ones(2, 3)
    with simulate("gaudi2"):
        rows = torch.ops.hpu.cast_to_fp8_v2.scalar_list(x, [1.0, 2.0], False, False, E4M3, [2, 1])[0].float()
        assert rows.tolist() == [[1.0] * 3, [2.0] * 3]
        columns = cast(x, torch.tensor([1.0, 2.0, 4.0]), scale_shape=[1, 3]).view(E4M3).float()
        assert columns.tolist() == [[1.0, 2.0, 4.0]] * 2
        with pytest.raises(ValueError, match=r"Number of scale elements \(3\) is not equal to number of scale_shape"):
            cast(x, torch.ones(3), scale_shape=[2, 1])


def test_stochastic_rounding_gives_neighbours() -> None:
    x = torch.full((4096,), 1.03125)
    with simulate("gaudi2"):
        torch.manual_seed(0)
        found = torch.ops.hpu.cast_to_fp8_v2(x, None, True, False, E4M3)[0].float()
        assert found.unique().tolist() == [1.0, 1.125]
        # A quarter of 4,096, within five standard deviations.
        assert abs(int((found == 1.125).sum()) - 1024) < 5 * (4096 * Fraction(3, 16)) ** 0.5


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (StochasticDenormals.STOCHASTIC, [0.0, 2.0**-16]),
        (StochasticDenormals.NEAREST, [2.0**-16]),
        (StochasticDenormals.ZERO, [0.0]),
    ],
)
def test_stochastic_rounding_of_small_values(choice: StochasticDenormals, wanted: list[float]) -> None:
    # Two thirds of the smallest subnormal.
    x = torch.full((256,), 2.0**-16 * 2 / 3, dtype=torch.bfloat16)
    with simulate("gaudi2", stochastic_denormals=choice):
        torch.manual_seed(0)
        assert torch.ops.hpu.cast_to_fp8_v2(x, None, True, False, E5M2)[0].float().unique().tolist() == wanted
        # The question is about bfloat16 and E5M2 alone.
        from_float32 = torch.ops.hpu.cast_to_fp8_v2(x.float(), None, True, False, E5M2)[0]
        assert from_float32.float().unique().tolist() == [0.0, 2.0**-16]


def test_one_of_two_formats_is_stochastic() -> None:
    x = torch.full((256,), 1.03125)
    with simulate("gaudi3"):
        torch.manual_seed(0)
        wide, narrow, _ = torch.ops.hpu.cast_to_fp8_hybrid(x, None, None, True, False)
    assert wide.float().unique().tolist() == [1.0, 1.25]
    assert narrow.float().unique().tolist() == [1.0]


def test_open_questions_have_a_choice() -> None:
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, -torch.nan, 2.0**-7, -(2.0**-9)])
    defaults = [0x77, 0xF7, 0x7F, 0x7F, 0x04, 0x81]
    for options, change in (
        ({}, {}),
        ({"inf": Inf.KEPT}, {0: 0x78, 1: 0xF8}),
        ({"nan": Nan.SIGNED}, {3: 0xFF}),
        ({"denormals": Denormals.ZERO}, {4: 0x00, 5: 0x80}),
    ):
        with simulate("gaudi2", **options):
            assert cast(x).tolist() == [change.get(i, code) for i, code in enumerate(defaults)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: torch.ops.hpu.cast_to_fp8_v2(torch.ones(1)), ValueError, "needs a dtype"),
        (lambda: cast(torch.ones(1, dtype=torch.float16)), TypeError, "take torch.float32 or torch.bfloat16, got"),
        (lambda: cast(torch.ones(1), None, torch.float8_e4m3fnuz), TypeError, "8-bit floats are torch.float8_e4m3fn"),
        (lambda: cast(torch.ones(1).to(E4M3), None, E5M2), TypeError, "cast to their own dtype only"),
        (lambda: cast(torch.ones(1).to(E4M3), 2.0), UnsupportedError, "is not known"),
        (
            lambda: torch.ops.hpu.cast_to_fp8_v2(torch.ones(1).to(E4M3), None, False, True, E4M3),
            ValueError,
            "CastToFp8V2 must have no amax for float8.",
        ),
        (
            lambda: torch.ops.hpu.cast_from_fp8(torch.ones(1).to(E4M3), None, torch.float16),
            TypeError,
            "gives torch.float32 or torch.bfloat16",
        ),
    ],
)
def test_errors(call: object, error: type[Exception], message: str) -> None:
    with simulate("gaudi2"), pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_float32_patterns_are_rounded_once(chip: str) -> None:
    x = random_patterns(1 << 14, torch.float32)
    x = x[x.isfinite()]
    fmt = WITNESS[chip, E4M3]
    limit = float(ml_dtypes.finfo(fmt).max)
    want = x.clamp(-limit, limit).numpy().astype(fmt).view(np.uint8)
    assert torch.equal(cast(x), torch.from_numpy(want))


def test_codes_beyond_240_on_the_way_back() -> None:
    codes = torch.tensor([0x77, 0x78, 0x7E, 0xF8], dtype=torch.uint8).view(torch.float8_e4m3fn)
    for chip, options, wanted in (
        ("gaudi2", {}, "[240.0, inf, nan, -inf]"),
        ("gaudi2", {"from_e4m3": "float8_e4m3fn"}, "[240.0, 256.0, 448.0, -256.0]"),
        ("gaudi3", {}, "[240.0, 256.0, 448.0, -256.0]"),
        ("gaudi3", {"from_e4m3": "float8_e4m3"}, "[240.0, inf, nan, -inf]"),
    ):
        with simulate(chip, **options):
            assert str(torch.ops.hpu.cast_from_fp8(codes, None, torch.float32).tolist()) == wanted
