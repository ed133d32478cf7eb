"""`compute_scale` against the oracle."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.conformance.block_judge import affine_zero_points, scales
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import ELEMENTS, block_rows, random_patterns
from incref.formats import ElementFormat, FloatFormat, IntFormat, ScaleRule, SymmetricScale, get_format
from incref.numerics.granularity import (
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    per_block,
    per_channel,
    per_group,
)
from incref.ops import compute_scale

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LINEAR = [rule for rule in ScaleRule if not rule.is_power_of_two]
POWERS = [rule for rule in ScaleRule if rule.is_power_of_two]
INTS = [fmt for fmt in ELEMENTS if isinstance(fmt, IntFormat)]
SYMMETRIC = [
    fmt for fmt in ELEMENTS if not (isinstance(fmt, IntFormat) and not fmt.is_signed) and fmt.name != "float64"
]
GRANULARITIES = [
    PER_TENSOR,
    PER_TOKEN,
    per_channel(),
    per_channel(1),
    per_group(4),
    per_group(5),
    per_group(3, axis=-2),
    per_block((2, 5)),
    Granularity((1,)),
]


def name_of(value: object) -> str | None:
    name = getattr(value, "name", None)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else name


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("rule", LINEAR, ids=name_of)
def test_symmetric_scales_of_every_format(rule: ScaleRule, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 5)
    for fmt in SYMMETRIC:
        for kind in SymmetricScale if isinstance(fmt, IntFormat) else [SymmetricScale.QMAX]:
            want = scales(x, fmt, PER_TOKEN, rule, kind)
            got = compute_scale(x, fmt, PER_TOKEN, rule=rule, symmetric_scale=kind)
            assert_same_bits(got, want.view(-1, 1), note=(fmt.name, kind))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("rule", LINEAR, ids=name_of)
def test_asymmetric_scales_of_every_integer(rule: ScaleRule, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 5)
    for fmt in INTS:
        want_scale, want_zero = affine_zero_points(x, fmt, PER_TOKEN, rule)
        scale, zero_point = compute_scale(x, fmt, PER_TOKEN, rule=rule, symmetric=False)
        assert_same_bits(scale, want_scale.view(-1, 1), note=fmt.name)
        assert_same_bits(zero_point, want_zero.view(-1, 1), note=fmt.name)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("rule", POWERS, ids=name_of)
def test_powers_of_two_of_every_format(rule: ScaleRule, dtype: torch.dtype) -> None:
    x = block_rows(dtype, 5)
    for fmt in SYMMETRIC:
        if isinstance(fmt, FloatFormat | IntFormat):
            got = compute_scale(x, fmt, PER_TOKEN, rule=rule)
            assert_same_bits(got, scales(x, fmt, PER_TOKEN, rule).view(-1, 1), note=fmt.name)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (2, 4, 6), (3, 3, 2, 2)], ids=str)
def test_blocks_are_what_the_granularity_says(shape: tuple[int, ...], granularity: Granularity) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x.view(-1)[::9] *= 1000
    int8 = get_format("int8")
    assert isinstance(int8, IntFormat)
    if len(granularity.block) > len(shape):
        pytest.fail("every granularity here has at most two dimensions")
    wanted = granularity.scale_shape(shape)
    for rule, kind in itertools.product(ScaleRule, SymmetricScale):
        got = compute_scale(x, int8, granularity, rule=rule, symmetric_scale=kind)
        assert_same_bits(got, scales(x, int8, granularity, rule, kind).view(wanted), note=(rule, kind))
    scale, zero_point = compute_scale(x, int8, granularity, symmetric=False)
    want_scale, want_zero = affine_zero_points(x, int8, granularity, ScaleRule.DIVIDE)
    assert_same_bits(scale, want_scale.view(wanted))
    assert_same_bits(zero_point, want_zero.view(wanted))


@pytest.mark.parametrize("rule", POWERS, ids=name_of)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_powers_of_two_of_random_patterns(rule: ScaleRule, seed: int, dtype: torch.dtype) -> None:
    x = random_patterns(64, dtype, seed=seed).view(-1, 1)
    fmt = SYMMETRIC[seed % len(SYMMETRIC)]
    if isinstance(fmt, FloatFormat | IntFormat):
        assert_same_bits(compute_scale(x, fmt, PER_TOKEN, rule=rule), scales(x, fmt, PER_TOKEN, rule).view(-1, 1))


@pytest.mark.parametrize("rule", POWERS, ids=name_of)
def test_thresholds_of_powers_of_two(rule: ScaleRule) -> None:
    tops = [1.0, 1.5, 1.75, 1.875, 1.9375, 1.96875, 1.984375, 1.9921875, 2.0]
    amax = torch.tensor([top * 2.0**k for top in tops for k in (-149, -140, -126, -120, -1, 0, 7, 120, 126)])
    amax = torch.cat([amax, torch.nextafter(amax, amax * 2), torch.nextafter(amax, amax * 0)]).view(-1, 1)
    for name in ("e4m3fn", "e5m2", "e2m3", "e3m2", "e2m1", "mxint8_element", "int8"):
        fmt: ElementFormat = get_format(name)  # type: ignore[assignment]
        assert_same_bits(compute_scale(amax, fmt, PER_TOKEN, rule=rule), scales(amax, fmt, PER_TOKEN, rule).view(-1, 1))


def test_division_and_reciprocal_differ() -> None:
    x = torch.arange(1.0, 200.0).view(-1, 1)
    by_division = compute_scale(x, "e4m3fn", PER_TOKEN, rule=ScaleRule.DIVIDE)
    by_reciprocal = compute_scale(x, "e4m3fn", PER_TOKEN, rule=ScaleRule.RECIPROCAL)
    fmt: ElementFormat = get_format("e4m3fn")  # type: ignore[assignment]
    assert not torch.equal(by_division, by_reciprocal)
    assert_same_bits(by_division, scales(x, fmt, PER_TOKEN, ScaleRule.DIVIDE).view(-1, 1))
    assert_same_bits(by_reciprocal, scales(x, fmt, PER_TOKEN, ScaleRule.RECIPROCAL).view(-1, 1))


def test_golden_scales() -> None:
    x = torch.tensor([[1.0, -3.0], [3.0, -3.0], [0.0, -0.0], [torch.inf, 1.0]])
    assert compute_scale(x, "int4", PER_TOKEN, symmetric_scale=SymmetricScale.EXTREME).flatten().tolist()[:3] == [
        0.375,
        0.375,
        1.0,
    ]
    assert compute_scale(-x[:1], "int4", PER_TOKEN, symmetric_scale=SymmetricScale.EXTREME).item() == -0.375
    assert compute_scale(x, "int4", PER_TOKEN, symmetric_scale=SymmetricScale.SPAN)[1].item() == 0.4000000059604645
    assert compute_scale(x, "e2m1", PER_TOKEN).flatten().tolist()[:3] == [0.5, 0.5, 1.0]
    assert compute_scale(x, "e2m1", PER_TOKEN, rule=ScaleRule.FLOOR).flatten().tolist() == [126, 126, 0, 255]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)], ids=str)
@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_TOKEN, per_group(4)], ids=str)
def test_a_tensor_without_elements(shape: tuple[int, ...], granularity: Granularity) -> None:
    scale, zero_point = compute_scale(torch.empty(shape), "int8", granularity, symmetric=False)
    assert scale.shape == zero_point.shape == granularity.scale_shape(shape)
    assert compute_scale(torch.empty(shape), "int8", granularity).tolist() == torch.ones_like(scale).tolist()


def test_a_single_number_is_a_block() -> None:
    for granularity in (PER_TENSOR, Granularity(())):
        assert compute_scale(torch.tensor(-2.0), "e2m1", granularity, rule=ScaleRule.RCEIL).item() == 126


@pytest.mark.parametrize("rule", ScaleRule, ids=name_of)
def test_unsigned_integers_have_no_symmetric_scale(rule: ScaleRule) -> None:
    with pytest.raises(ValueError, match="uint8 is unsigned; a symmetric scale needs a signed format, such as int8"):
        compute_scale(torch.ones(3), "uint8", rule=rule)


@pytest.mark.parametrize(
    ("name", "rule", "got"),
    [
        ("e4m3fn", ScaleRule.DIVIDE, "float8_e4m3fn"),
        ("nf4", ScaleRule.DIVIDE, "nf4"),
        ("int8", ScaleRule.FLOOR, "int8"),
    ],
)
def test_asymmetric_scales_are_for_integers(name: str, rule: ScaleRule, got: str) -> None:
    with pytest.raises(ValueError, match=f"an asymmetric scale needs an integer format and .* got {got}"):
        compute_scale(torch.ones(3), name, rule=rule, symmetric=False)


def test_even_needs_a_precision() -> None:
    with pytest.raises(ValueError, match="EVEN rounds to the precision of a float or integer format, and nf4 has none"):
        compute_scale(torch.ones(3), "nf4", rule=ScaleRule.EVEN)


def test_formats_that_have_no_scale_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="mxfp4 shares scales between elements"):
        compute_scale(torch.ones(3), "mxfp4")
    with pytest.raises(ValueError, match="no format is called"):
        compute_scale(torch.ones(3), "int99")


def test_too_many_dimensions_of_a_block_are_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks of 2 dimensions need a tensor of as many, got shape \(3,\)"):
        compute_scale(torch.ones(3), "int8", per_block((2, 2)))
