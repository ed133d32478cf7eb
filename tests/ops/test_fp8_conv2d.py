"""Convolutions of scaled 8-bit floats."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.judge import assert_same_bits
from incref.conformance.run import run
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity
from incref.ops import decode, encode, fp8_conv2d, fp8_matmul
from incref.ops.fp8_conv2d import PER_FILTER

E4M3 = "float8_e4m3fn"
FORMATS = {"x_fmt": E4M3, "w_fmt": E4M3}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return encode(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), E4M3)


def test_it_is_a_sum_of_fractions() -> None:
    x, w = draw(1, 4, 5, 4), draw(2, 2, 3, 2, seed=1)
    found = fp8_conv2d(x, w, None, None, **FORMATS, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)  # type: ignore[arg-type]
    image, filters = decode(x, E4M3), decode(w, E4M3)
    assert found.shape == (1, 2, 3, 6)
    for n, i, j in product(range(2), range(3), range(6)):
        total = Fraction(0)
        for c, a, b in product(range(2), range(3), range(2)):
            row, column = 2 * i + a - 1, j + 2 * b - 2
            if 0 <= row < 5 and 0 <= column < 4:
                total += Fraction(image[0, 2 * n + c, row, column].item()) * Fraction(filters[n, c, a, b].item())
        # A quotient of integers is rounded once to float64, which holds these sums; then to float32.
        assert found[0, n, i, j].item() == torch.tensor(total.numerator / total.denominator).item()


def test_a_kernel_of_one_element_is_a_product() -> None:
    x, w, bias = draw(1, 16, 5, 1), draw(6, 16, 1, 1, seed=1), torch.arange(6.0)
    scales = torch.tensor(0.3), torch.rand(6, 1, generator=torch.Generator().manual_seed(2))
    for granularity, other in ((PER_TOKEN, scales[1]), (PER_TENSOR, torch.tensor(1.7))):
        rows: Granularity = PER_FILTER if granularity == PER_TOKEN else PER_TENSOR
        want = fp8_matmul(
            x[0, :, :, 0].T,
            w[:, :, 0, 0],
            scales[0],
            other,
            **FORMATS,
            w_granularity=granularity,
            bias=bias,  # type: ignore[arg-type]
        )
        given = other[:, :, None, None] if other.ndim else other
        found = fp8_conv2d(x, w, scales[0], given, **FORMATS, w_granularity=rows, bias=bias)  # type: ignore[arg-type]
        assert_same_bits(found[0, :, :, 0].T.contiguous(), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_small_integers_are_what_pytorch_convolves(dtype: torch.dtype) -> None:
    x, w = (
        torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(0)).float()
        for shape in ((2, 3, 8, 7), (4, 3, 3, 3))
    )
    found = fp8_conv2d(encode(x, E4M3), encode(w, E4M3), None, None, **FORMATS, padding=(1, 1), dtype=dtype)  # type: ignore[arg-type]
    assert torch.equal(found, F.conv2d(x, w, padding=1).to(dtype))
    assert found.is_contiguous()


def test_nan_and_the_border() -> None:
    x = torch.full((1, 1, 3, 3), 0x38, dtype=torch.uint8)
    x[0, 0, 0, 0] = 0x7F
    ones = torch.full((1, 1, 2, 2), 0x38, dtype=torch.uint8)
    found = fp8_conv2d(x, ones, None, None, **FORMATS)  # type: ignore[arg-type]
    assert found.isnan().tolist() == [[[[True, False], [False, False]]]]
    # A zero of the border by an Inf of the filter is NaN.
    infinite = torch.full((1, 1, 1, 1), 0x7C, dtype=torch.uint8)
    edged = fp8_conv2d(ones, infinite, None, None, x_fmt=E4M3, w_fmt="float8_e5m2", padding=(0, 1))
    assert edged.isnan().sum() == 4
    assert edged.isinf().sum() == 4


def test_empty_batches_have_a_shape() -> None:
    assert fp8_conv2d(draw(0, 3, 5, 5), draw(4, 3, 2, 2), None, None, **FORMATS).shape == (0, 4, 4, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((1, 3, 4, 4), (4, 2, 2, 2), {}, r"x must be \[B, C, H, W\]"),
        ((3, 4, 4), (4, 3, 2, 2), {}, r"x must be \[B, C, H, W\]"),
        ((1, 4, 4, 4), (3, 2, 2, 2), {"groups": 2}, "N a multiple of 2 groups"),
        ((1, 3, 4, 4), (4, 3, 5, 2), {}, r"a kernel \(5, 2\) doesn't fit an image \(4, 4\)"),
        ((1, 3, 4, 4), (4, 3, 2, 2), {"w_granularity": PER_TOKEN}, "must be PER_TENSOR or PER_FILTER"),
        ((1, 3, 4, 4), (4, 3, 2, 2), {"x_fmt": "nf4"}, "needs a zero whose code is 0"),
        (
            (1, 3, 4, 4),
            (4, 3, 2, 2),
            {"w_granularity": PER_FILTER, "w_scale": torch.ones(4)},
            "w_scale must have the shape",
        ),
    ],
)
def test_what_is_wrong_is_refused(
    x: tuple[int, ...], w: tuple[int, ...], options: dict[str, object], message: str
) -> None:
    arguments = {"x_scale": None, "w_scale": None, **FORMATS, **options}
    with pytest.raises(ValueError, match=message):
        fp8_conv2d(draw(*x), draw(*w), **arguments)  # type: ignore[arg-type]


def wrong_stride(*args: object, **options: object) -> Tensor:
    """Takes the stride for the dilation where both are free."""
    stride, dilation = options.get("stride", (1, 1)), options.get("dilation", (1, 1))
    return fp8_conv2d(*args, **{**options, "stride": dilation, "dilation": stride})  # type: ignore[arg-type]


def scales_rolled(x: Tensor, w: Tensor, x_scale: Tensor | None, w_scale: Tensor | None, **options: object) -> Tensor:
    rolled = None if w_scale is None else w_scale.roll(1, 0) if w_scale.ndim else w_scale
    return fp8_conv2d(x, w, x_scale, rolled, **options)  # type: ignore[arg-type]


def transposed(x: Tensor, w: Tensor, *rest: object, **options: object) -> Tensor:
    """Multiplies with filters that are turned over."""
    return fp8_conv2d(x, w.flip(-2), *rest, **options)  # type: ignore[arg-type]


def groups_mixed(x: Tensor, *rest: object, **options: object) -> Tensor:
    """Gives a group the channels of its neighbour."""
    found = x.roll(x.shape[1] // int(options.get("groups", 1)), 1)  # type: ignore[call-overload]
    return fp8_conv2d(found, *rest, **options)  # type: ignore[arg-type]


def border_of_ones(x: Tensor, *rest: object, **options: object) -> Tensor:
    """Pads with the value of 0x38."""
    height, width = options.pop("padding", (0, 0))  # type: ignore[misc]
    return fp8_conv2d(F.pad(x, (width, width, height, height), value=0x38), *rest, **options)  # type: ignore[arg-type]


def bias_forgotten(*args: object, **options: object) -> Tensor:
    options.pop("bias", None)
    return fp8_conv2d(*args, **options)  # type: ignore[arg-type]


def test_the_suite_passes_the_reference() -> None:
    outcome = run(Implementation.of("right", Candidate(op="fp8_conv2d", fn=fp8_conv2d)), level=1)
    assert outcome.is_good, outcome.verdict
    assert len(outcome.results) > 100


@pytest.mark.parametrize(
    "wrong", [wrong_stride, scales_rolled, transposed, groups_mixed, border_of_ones, bias_forgotten]
)
def test_the_suite_finds_what_is_wrong(wrong: object) -> None:
    outcome = run(Implementation.of("wrong", Candidate(op="fp8_conv2d", fn=wrong)), level=0)  # type: ignore[arg-type]
    assert not outcome.is_good
