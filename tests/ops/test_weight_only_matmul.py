"""`weight_only_matmul` against the oracle."""

import pytest
import torch
from torch import Tensor

from incref.conformance.block_judge import affine_values, float_values, mx_values
from incref.conformance.judge import assert_same_bits
from incref.conformance.matmul_judge import judged_matmul
from incref.formats import BlockFormat, IntFormat, ScaleOrder, get_format
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_group
from incref.ops import quantize_affine, quantize_float, quantize_mx, weight_only_matmul

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def judged(x: Tensor, w: Tensor, *, bias: Tensor | None = None, dtype: torch.dtype) -> Tensor:
    return judged_matmul(
        x.double(), w.double(), None, None, order=ScaleOrder.EXACT, stretch=x.shape[-1], bias=bias, dtype=dtype
    )


@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["int8", "uint8", "int4", "uint4", "uint3", "int2"])
def test_integers(name: str, x_dtype: torch.dtype) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, IntFormat)
    x, bias = normal(2, 3, 70).to(x_dtype), normal(5, seed=2)
    for granularity in (PER_TENSOR, PER_TOKEN, per_group(32)):
        codes, scale, *zero = quantize_affine(
            normal(5, 70, seed=1), fmt, granularity=granularity, symmetric=fmt.is_signed
        )
        for weight_dtype in (None, torch.float32, torch.float16):
            got = weight_only_matmul(
                x, codes, scale, name, *zero, granularity=granularity, bias=bias, weight_dtype=weight_dtype
            )
            weight = affine_values(codes, scale, zero[0] if zero else None, granularity, weight_dtype or x_dtype)
            assert_same_bits(got, judged(x, weight, bias=bias, dtype=x_dtype), note=(granularity, weight_dtype))


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "nf4"])
def test_floats_and_codebooks(name: str) -> None:
    fmt = get_format(name)
    assert not isinstance(fmt, BlockFormat)
    x = normal(3, 70).to(torch.bfloat16)
    codes, scale = quantize_float(normal(5, 70, seed=1), fmt, granularity=per_group(32))
    got = weight_only_matmul(x, codes, scale, name, granularity=per_group(32), dtype=torch.float32)
    assert_same_bits(
        got, judged(x, float_values(codes, scale, fmt, per_group(32), torch.bfloat16), dtype=torch.float32)
    )


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4"])
def test_blocks(name: str) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    x = normal(3, 70).to(torch.float16)
    codes, scale, *tensor = quantize_mx(normal(5, 70, seed=1), fmt)
    tensor_scale = tensor[0] if tensor else None
    got = weight_only_matmul(x, codes, scale, name, tensor_scale=tensor_scale)
    weight = mx_values(codes, scale, fmt, tensor_scale=tensor_scale, dtype=torch.float16)
    assert_same_bits(got, judged(x, weight, dtype=torch.float16))


def test_columns_find_their_group_by_index() -> None:
    x, w, group = normal(3, 64), normal(5, 64, seed=1), torch.arange(64).remainder(4).flip(0)
    order = group.argsort(stable=True)
    codes, scale, zero = quantize_affine(w[:, order], "uint4", granularity=per_group(16), symmetric=False)
    back = order.argsort()
    for index in (group, group.to(torch.int32)):
        got = weight_only_matmul(x, codes[:, back], scale, "uint4", zero, g_idx=index)
        want = weight_only_matmul(x[:, order], codes, scale, "uint4", zero, granularity=per_group(16))
        assert_same_bits(got, want)
    repeated = torch.arange(64) // 16
    assert_same_bits(weight_only_matmul(x[:, order], codes, scale, "uint4", zero, g_idx=repeated), want)


def test_wide_activations_lose_nothing() -> None:
    x = torch.tensor([[2.0**100, 1.0, -(2.0**100), 2.0**-100]], dtype=torch.bfloat16)
    codes = torch.tensor([[1, 3, 1, 1]], dtype=torch.int8)
    got = weight_only_matmul(x, codes, torch.tensor(1.0), "int8", dtype=torch.float32)
    assert got.item() == 3.0
    tie = torch.tensor([[1.0, 2.0**-8, 2.0**-100]], dtype=torch.bfloat16)
    got = weight_only_matmul(tie, torch.ones(1, 3, dtype=torch.int8), torch.tensor(1.0), "int8")
    assert got.item() == 1 + 2.0**-7


def test_specials_stay_in_their_row() -> None:
    x = torch.tensor([[1.0, torch.inf], [torch.nan, 1.0], [1.0, 1.0]])
    codes = torch.tensor([[1, 1], [1, 0], [1, -1]], dtype=torch.int8)
    got = weight_only_matmul(x, codes, torch.tensor(1.0), "int4")
    inf, nan = torch.inf, torch.nan
    assert_same_bits(got, torch.tensor([[inf, nan, -inf], [nan, nan, nan], [2.0, 1.0, 0.0]]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fmt": "uint4"}, TypeError, r"codes of uint4 must be torch\.uint8, got torch\.int8"),
        ({"fmt": "int16"}, ValueError, "affine quantization needs int2 to int8 or uint1 to uint8, got int16"),
        ({"tensor_scale": torch.tensor(1.0)}, ValueError, "int4 has no tensor_scale"),
        ({"weight_dtype": torch.float64}, TypeError, r"weight_dtype must be .* got torch\.float64"),
        ({"g_idx": torch.tensor([0, 1, 2, 3])}, ValueError, r"scale must be \[3, groups\], got \(\)"),
        ({"g_idx": torch.zeros(3, dtype=torch.int32)}, ValueError, r"g_idx must be torch\.int32 or torch\.int64 \[4\]"),
        ({"g_idx": torch.zeros(4, dtype=torch.int32), "granularity": PER_TOKEN}, ValueError, "say it otherwise"),
        (
            {"g_idx": torch.tensor([0, 0, 0, 2]), "scale": torch.ones(3, 2)},
            ValueError,
            "g_idx must be from 0 to 1, got 0 to 2",
        ),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    given = {"scale": torch.tensor(1.0), "fmt": "int4", **options}
    with pytest.raises(error, match=message):
        weight_only_matmul(
            torch.ones(2, 4), torch.ones(3, 4, dtype=torch.int8), given.pop("scale"), given.pop("fmt"), **given
        )


def test_formats_without_zero_points() -> None:
    x, codes, zero = torch.ones(2, 32), torch.ones(3, 32, dtype=torch.uint8), torch.zeros((), dtype=torch.int32)
    with pytest.raises(ValueError, match="only integer formats have zero points, got float8_e4m3fn"):
        weight_only_matmul(x, codes, torch.tensor(1.0), "e4m3fn", zero)
    with pytest.raises(ValueError, match="mxfp4 has blocks of its own and no zero_point; leave both out"):
        weight_only_matmul(x, codes, codes[:, :1], "mxfp4", granularity=PER_TOKEN)


def test_activations_are_floats() -> None:
    for x in (torch.ones(2, 4, dtype=torch.int8), torch.ones(2, 4, dtype=torch.float64)):
        with pytest.raises(TypeError, match=r"x must be torch\.float32, torch\.bfloat16 or torch\.float16, got torch"):
            weight_only_matmul(x, torch.ones(3, 4, dtype=torch.int8), torch.tensor(1.0), "int8")
