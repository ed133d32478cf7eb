from fractions import Fraction

import pytest
import torch

from incref.errors import NanError
from incref.formats import FORMATS, IntFormat
from incref.numerics.granularity import PER_TENSOR, per_group
from incref.ops import dequantize_affine, gptq_update, quantize_affine
from incref.oracle.datum import datum_of, number
from incref.oracle.encode import round_to

FLOAT32 = FORMATS["float32"]
INT4 = FORMATS["int4"]
assert isinstance(INT4, IntFormat)


def rounded(x: Fraction) -> Fraction:
    return round_to(number(x), FLOAT32).value  # type: ignore[arg-type]


def exact(x: torch.Tensor) -> list[list[Fraction]]:
    return [[datum_of(value).value for value in row] for row in x.double().tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_every_step_is_the_formula_in_fractions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, upper = torch.randn(3, 6, generator=generator), torch.randn(6, 6, generator=generator)
    upper.diagonal().abs_().add_(0.2)
    scale = torch.rand(3, 1, generator=generator) + 0.1
    codes, error, updated = gptq_update(w, upper, scale, "int4")
    W, U, s = exact(w), exact(upper), [row[0] for row in exact(scale)]
    for n in range(3):
        for j in range(6):
            assert datum_of(float(updated[n, j])).value == W[n][j]
            code = min(max(round(rounded(W[n][j] / s[n])), -8), 7)
            assert int(codes[n, j]) == code
            e = rounded(rounded(W[n][j] - rounded(code * s[n])) / U[j][j])
            assert datum_of(float(error[n, j])).value == e
            for k in range(j + 1, 6):
                W[n][k] = rounded(W[n][k] - rounded(U[j][k] * e))


def test_a_diagonal_factor_is_rounding_to_nearest() -> None:
    w = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    granularity = per_group(8)
    scale, zero = torch.full((5, 2), 0.3), torch.full((5, 2), 7, dtype=torch.int32)
    codes, error, updated = gptq_update(w, torch.eye(16), scale, "uint4", zero, granularity=granularity)
    assert torch.equal(updated, w)
    assert torch.equal(codes, quantize_affine(w, "uint4", scale, zero, granularity=granularity)[0])
    assert torch.equal(error, w - dequantize_affine(codes, scale, zero, granularity=granularity))


def test_what_is_below_the_diagonal_is_not_read() -> None:
    w = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    upper = torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) + 0.2
    poisoned = torch.where(torch.ones(7, 7).tril(-1).bool(), torch.nan, upper)
    for one, other in zip(
        gptq_update(w, upper, torch.ones(4, 1), "int4"), gptq_update(w, poisoned, torch.ones(4, 1), "int4"), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_small_shapes(shape: tuple[int, int]) -> None:
    scale = torch.ones(shape[0], 1 if shape[1] else 0)
    found = gptq_update(torch.ones(shape), torch.eye(shape[1]), scale, "int4")
    assert [tuple(one.shape) for one in found] == [shape] * 3
    assert found[0].dtype is torch.int8


def test_arguments_are_checked() -> None:
    w, upper, scale = torch.ones(2, 3), torch.eye(3), torch.ones(2, 1)
    with pytest.raises(TypeError, match=r"w must be torch\.float32"):
        gptq_update(w.double(), upper, scale, "int4")
    with pytest.raises(ValueError, match=r"upper \[B, B\]"):
        gptq_update(w, torch.eye(2), scale, "int4")
    with pytest.raises(ValueError, match="the scale of a tensor"):
        gptq_update(w, upper, torch.ones(3, 1), "int4")
    with pytest.raises(ValueError, match="rows or groups of columns"):
        gptq_update(w, upper, torch.ones(()), "int4", granularity=PER_TENSOR)
    with pytest.raises(ValueError, match="int2 to int8"):
        gptq_update(w, upper, scale, "float8_e4m3fn")
    with pytest.raises(NanError):
        gptq_update(w * torch.nan, upper, scale, "int4")
