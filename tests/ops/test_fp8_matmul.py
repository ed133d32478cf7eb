"""`fp8_matmul` against the oracle."""

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.conformance.matmul_judge import judged_matmul, scales_of_elements
from incref.conformance.samples import all_codes
from incref.formats import ScaleOrder, get_format
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.ops import decode, encode, fp8_matmul

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FORMATS = ["e4m3fn", "e5m2", "e4m3fnuz", "float8_e4m3", "e2m1", "e3m2", "nf4"]


def normal(*shape: int, fmt: str, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * (0.3 if fmt == "nf4" else 4)
    return encode(x, fmt)


def scale(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) / 7


def judged(
    x: Tensor,
    w: Tensor,
    x_fmt: str,
    w_fmt: str,
    *,
    x_scale: Tensor | None = None,
    w_scale: Tensor | None = None,
    x_granularity: Granularity = PER_TENSOR,
    w_granularity: Granularity = PER_TENSOR,
    bias: Tensor | None = None,
    order: ScaleOrder = ScaleOrder.PRODUCT,
    dtype: torch.dtype = torch.float32,
    stretch: int | None = None,
) -> Tensor:
    return judged_matmul(
        decode(x, x_fmt, dtype=torch.float64),
        decode(w, w_fmt, dtype=torch.float64),
        scales_of_elements(x_scale, x.shape, x_granularity),
        scales_of_elements(w_scale, w.shape, w_granularity),
        order=order,
        stretch=stretch or x.shape[-1],
        bias=bias,
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("w_fmt", FORMATS)
def test_formats_meet(w_fmt: str, dtype: torch.dtype) -> None:
    for x_fmt in ("e4m3fn", "e5m2"):
        x, w = normal(3, 200, fmt=x_fmt), normal(4, 200, fmt=w_fmt, seed=1)
        got = fp8_matmul(x, w, None, None, x_fmt=x_fmt, w_fmt=w_fmt, dtype=dtype)
        assert_same_bits(got, judged(x, w, x_fmt, w_fmt, dtype=dtype), note=x_fmt)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_every_code_meets_every_third(name: str) -> None:
    codes = all_codes(get_format(name)).view(-1, 1)
    got = fp8_matmul(codes, codes[::3], None, None, x_fmt=name, w_fmt=name)
    assert_same_bits(got, judged(codes, codes[::3], name, name))


@pytest.mark.parametrize("order", ScaleOrder)
@pytest.mark.parametrize(
    ("x_granularity", "w_granularity", "stretch"),
    [
        (PER_TENSOR, PER_TENSOR, 200),
        (PER_TOKEN, PER_TOKEN, 200),
        (PER_TOKEN, PER_TENSOR, 200),
        (per_group(32), per_block((32, 32)), 32),
        (per_group(128), per_block((2, 128)), 128),
        (PER_TOKEN, per_group(64), 64),
    ],
    ids=str,
)
def test_scales(x_granularity: Granularity, w_granularity: Granularity, stretch: int, order: ScaleOrder) -> None:
    x, w = normal(2, 2, 200, fmt="e4m3fn"), normal(5, 200, fmt="e5m2", seed=1)
    options = {
        "x_scale": scale(*x_granularity.scale_shape(x.shape)),
        "w_scale": scale(*w_granularity.scale_shape(w.shape), seed=1),
        "x_granularity": x_granularity,
        "w_granularity": w_granularity,
    }
    for dtype, bias in ((torch.float32, None), (torch.bfloat16, scale(5)), (torch.float16, scale(5).half())):
        got = fp8_matmul(x, w, x_fmt="e4m3fn", w_fmt="e5m2", bias=bias, order=order, dtype=dtype, **options)
        want = judged(x, w, "e4m3fn", "e5m2", bias=bias, order=order, dtype=dtype, stretch=stretch, **options)
        assert_same_bits(got, want, note=dtype)


def test_random_codes_with_specials() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randint(0, 256, shape, generator=generator).to(torch.uint8) for shape in ((30, 3), (40, 3)))
    for order in ScaleOrder:
        options = {"x_scale": scale(30, 1), "w_scale": scale(40, 1)}
        options["x_scale"][3], options["w_scale"][5] = torch.inf, torch.nan
        options |= {"x_granularity": PER_TOKEN, "w_granularity": PER_TOKEN, "order": order}
        got = fp8_matmul(x, w, x_fmt="e5m2", w_fmt="e5m2", **options)
        assert_same_bits(got, judged(x, w, "e5m2", "e5m2", **options), note=order)
        assert got.isnan().any()
        assert got.isinf().any()


def test_one_rounding_to_the_dtype() -> None:
    # 1 + 2**-8 + 2**-18: by way of float32 nothing is lost, by way of bfloat16 twice it would be 1.
    x = encode(torch.tensor([[1.0, 2.0**-8, 2.0**-9]]), "e4m3fn")
    w = encode(torch.tensor([[1.0, 1.0, 2.0**-9]]), "e4m3fn")
    assert fp8_matmul(x, w, None, None, x_fmt="e4m3fn", w_fmt="e4m3fn", dtype=torch.bfloat16).item() == 1 + 2.0**-7


def test_a_sum_beyond_the_dtype_is_inf() -> None:
    x = torch.full((1, 2), 0x7B, dtype=torch.uint8)
    assert fp8_matmul(x, x, None, None, x_fmt="e5m2", w_fmt="e5m2", dtype=torch.float16).item() == torch.inf
    assert fp8_matmul(x, x, None, None, x_fmt="e5m2", w_fmt="e5m2").item() == 2 * 57344.0**2


def test_long_sums_of_both_ends_of_the_range() -> None:
    # 2**33 - 2**33 + 2**-32: more bits than float64 has.
    x = torch.tensor([[0x78, 0xF8, 0x01]], dtype=torch.uint8)
    w = torch.tensor([[0x78, 0x78, 0x01]], dtype=torch.uint8)
    assert fp8_matmul(x, w, None, None, x_fmt="e5m2", w_fmt="e5m2").item() == 2.0**-32


def test_no_rows_and_no_columns() -> None:
    x = normal(3, 16, fmt="e4m3fn")
    formats = {"x_fmt": "e4m3fn", "w_fmt": "e4m3fn"}
    assert fp8_matmul(x[:0], x, None, None, **formats).shape == (0, 3)
    assert fp8_matmul(x[0], x, None, None, **formats).shape == (3,)
    for granularity in (PER_TENSOR, PER_TOKEN):
        ones = torch.ones(granularity.scale_shape((3, 0)))
        options = {"x_granularity": granularity, "w_granularity": granularity, **formats}
        assert_same_bits(fp8_matmul(x[:, :0], x[:, :0], ones, ones, **options), torch.zeros(3, 3))


def test_wrong_arguments_are_refused() -> None:
    x, formats = normal(3, 64, fmt="e4m3fn"), {"x_fmt": "e4m3fn", "w_fmt": "e4m3fn"}
    with pytest.raises(ValueError, match=r"scales along K must come in blocks of one size, got \[16, 32\]"):
        fp8_matmul(
            x,
            x,
            torch.ones(3, 4),
            torch.ones(3, 2),
            x_granularity=per_group(16),
            w_granularity=per_group(32),
            **formats,
        )
    with pytest.raises(TypeError, match=r"codes of float8_e4m3fn must be torch\.uint8, got torch\.int8"):
        fp8_matmul(x, x.view(torch.int8), None, None, **formats)
    with pytest.raises(ValueError, match="scaled floats need a float format of at most 8 bits, got int8"):
        fp8_matmul(x, x, None, None, x_fmt="int8", w_fmt="e4m3fn")
    with pytest.raises(ValueError, match=r"the w_scale of a tensor of shape \(3, 64\).* \(\), got \(3,\)"):
        fp8_matmul(x, x, None, torch.ones(3), **formats)
