"""Products of batches of scaled 8-bit floats."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor

from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.judge import assert_same_bits
from incref.conformance.run import run
from incref.formats import ScaleOrder
from incref.ops import decode, encode, fp8_bmm, fp8_matmul

E4M3 = "float8_e4m3fn"
FORMATS = {"x_fmt": E4M3, "y_fmt": E4M3}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return encode(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), E4M3)


def test_it_is_a_sum_of_fractions() -> None:
    x, y = draw(2, 1, 3, 5), draw(4, 5, 2, seed=1)
    found = fp8_bmm(x, y, None, None, **FORMATS)  # type: ignore[arg-type]
    left, right = decode(x, E4M3), decode(y, E4M3)
    assert found.shape == (2, 4, 3, 2)
    for a, b, i, j in product(range(2), range(4), range(3), range(2)):
        total = sum(Fraction(left[a, 0, i, k].item()) * Fraction(right[b, k, j].item()) for k in range(5))
        # A quotient of integers is rounded once to float64, which holds these sums; then to float32.
        assert found[a, b, i, j].item() == torch.tensor(total.numerator / total.denominator).item()


@pytest.mark.parametrize("order", ScaleOrder)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_each_matrix_is_a_product_of_two(dtype: torch.dtype, order: ScaleOrder) -> None:
    x, y = draw(3, 4, 16), draw(3, 16, 6, seed=1)
    scales = torch.tensor(0.3), torch.tensor(1.7)
    found = fp8_bmm(x, y, *scales, **FORMATS, order=order, dtype=dtype)  # type: ignore[arg-type]
    want = [
        fp8_matmul(a, b.T, *scales, x_fmt=E4M3, w_fmt=E4M3, order=order, dtype=dtype) for a, b in zip(x, y, strict=True)
    ]
    assert_same_bits(found, torch.stack(want))


@pytest.mark.parametrize(
    ("x", "y"), [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,)), ((2,), ()), ((), ()), ((0,), (1,))], ids=str
)
def test_small_integers_are_what_pytorch_multiplies(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-3, 4, shape, generator=generator).float() for shape in ((*x, 5, 7), (*y, 7, 4)))
    found = fp8_bmm(encode(left, E4M3), encode(right, E4M3), None, None, **FORMATS)  # type: ignore[arg-type]
    assert torch.equal(found, torch.matmul(left, right))
    assert found.is_contiguous()


def test_a_nan_stays_in_its_matrix() -> None:
    x, y = draw(2, 3, 4), draw(2, 4, 3, seed=1)
    x[0, 1, 2] = 0x7F
    found = fp8_bmm(x, y, None, None, **FORMATS)  # type: ignore[arg-type]
    assert found.isnan().any(-1).tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ((4,), (4, 2), {}, r"x must be \[..., M, K\] and y \[..., K, N\], got \(4,\) and \(4, 2\)"),
        ((2, 4), (3, 2), {}, r"x must be \[..., M, K\] and y \[..., K, N\], got \(2, 4\) and \(3, 2\)"),
        ((2, 3, 4), (3, 4, 2), {}, r"the batches of x and y must broadcast, got \(2,\) and \(3,\)"),
        ((3, 4), (4, 2), {"y_scale": torch.ones(2)}, r"y_scale must be one scale, of the shape \(\), got \(2,\)"),
        ((3, 4), (4, 2), {"x_fmt": "float16"}, "float16"),
    ],
)
def test_what_is_wrong_is_refused(
    x: tuple[int, ...], y: tuple[int, ...], options: dict[str, object], message: str
) -> None:
    arguments = {"x_scale": None, "y_scale": None, **FORMATS, **options}
    with pytest.raises(ValueError, match=message):
        fp8_bmm(draw(*x), draw(*y), **arguments)  # type: ignore[arg-type]


def first_for_all(x: Tensor, y: Tensor, *rest: object, **options: object) -> Tensor:
    """Multiplies every matrix with the first of y."""
    return fp8_bmm(x, y[:1].expand_as(y) if y.ndim > 2 else y, *rest, **options)  # type: ignore[arg-type]


def next_one(x: Tensor, y: Tensor, *rest: object, **options: object) -> Tensor:
    """Takes the matrix of x that is one further in the batch."""
    return fp8_bmm(x.roll(1, 0) if x.ndim > 2 else x, y, *rest, **options)  # type: ignore[arg-type]


def batches_exchanged(x: Tensor, y: Tensor, *rest: object, **options: object) -> Tensor:
    """Walks through two dimensions of a batch of x in the other order."""
    if x.ndim < 4 or x.shape[0] == 1 or x.shape[1] == 1:
        return fp8_bmm(x, y, *rest, **options)  # type: ignore[arg-type]
    return fp8_bmm(x.transpose(0, 1).reshape(x.shape), y, *rest, **options)  # type: ignore[arg-type]


def scale_of_x_twice(x: Tensor, y: Tensor, x_scale: Tensor | None, y_scale: Tensor | None, **options: object) -> Tensor:
    """Takes the scale of x for that of y."""
    del y_scale
    return fp8_bmm(x, y, x_scale, x_scale, **options)  # type: ignore[arg-type]


def last_dropped(x: Tensor, y: Tensor, *rest: object, **options: object) -> Tensor:
    """Leaves out the last product of every sum."""
    return fp8_bmm(x[..., :-1], y[..., :-1, :], *rest, **options)  # type: ignore[arg-type]


def rounded_twice(*args: object, dtype: torch.dtype = torch.float32, **options: object) -> Tensor:
    """Rounds to bfloat16 first."""
    return fp8_bmm(*args, dtype=torch.bfloat16, **options).to(dtype)  # type: ignore[arg-type]


def test_the_suite_passes_the_reference() -> None:
    outcome = run(Implementation.of("right", Candidate(op="fp8_bmm", fn=fp8_bmm)), level=1)
    assert outcome.is_good, outcome.verdict
    assert len(outcome.results) > 100


@pytest.mark.parametrize(
    "wrong", [first_for_all, next_one, batches_exchanged, scale_of_x_twice, last_dropped, rounded_twice]
)
def test_the_suite_finds_what_is_wrong(wrong: object) -> None:
    outcome = run(Implementation.of("wrong", Candidate(op="fp8_bmm", fn=wrong)), level=0)  # type: ignore[arg-type]
    assert not outcome.is_good
