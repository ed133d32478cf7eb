"""Kernels of casts give the bits of the contracts, and decline the rest."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.conformance.oracle_answers import ORACLE_ANSWERS
from incref.errors import UnsupportedError
from incref.formats import FORMATS, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.formats.gaudi import GAUDI
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_channel, per_group
from incref.ops import decode, dequantize_float, encode, quantize_float
from incref_kernels.hpu import BACKEND
from incref_kernels.hpu.simulator.simulate import simulate

RECIPROCAL = {"arithmetic": ScaleArithmetic.RECIPROCAL}


@pytest.fixture(params=GAUDI)
def e4m3(request: pytest.FixtureRequest) -> Iterator[str]:
    with simulate(request.param):
        yield GAUDI[request.param].e4m3.name


def patterns(dtype: torch.dtype) -> Tensor:
    """All values of bfloat16 that are numbers."""
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return x[~x.isnan()].to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_codes_are_those_of_the_oracle(e4m3: str, dtype: torch.dtype) -> None:
    x = patterns(dtype)
    for fmt in (e4m3, "float8_e5m2"):
        assert_same_bits(encode.on(BACKEND)(x, fmt), ORACLE_ANSWERS["encode"](x, fmt))


def test_values_are_those_of_the_oracle(e4m3: str) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for fmt in (e4m3, "float8_e5m2"):
        for dtype in (torch.float32, torch.bfloat16):
            assert_same_bits(
                decode.on(BACKEND)(codes, fmt, dtype=dtype), ORACLE_ANSWERS["decode"](codes, fmt, dtype=dtype)
            )


@pytest.mark.parametrize("quotient", QuotientDtype)
@pytest.mark.parametrize("granularity", [PER_TENSOR, PER_TOKEN, per_channel()], ids=str)
def test_scaled_codes(e4m3: str, granularity: Granularity, quotient: QuotientDtype) -> None:
    x = torch.randn(7, 300, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16) * 20
    shape = granularity.scale_shape(x.shape)
    given = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1
    for scale in (given, None):
        options = {"granularity": granularity, "quotient": quotient, **RECIPROCAL}
        want = quantize_float(x, e4m3, scale, **options)
        for found, right in zip(quantize_float.on(BACKEND)(x, e4m3, scale, **options), want, strict=True):
            assert_same_bits(found, right)


def test_a_token_has_a_scale_of_its_own(e4m3: str) -> None:
    x = torch.tensor([[1.0, 2.0], [100.0, 50.0], [0.0, 0.0]], dtype=torch.bfloat16)
    options = {"granularity": PER_TOKEN, "quotient": QuotientDtype.INPUT, **RECIPROCAL}
    codes, scale = quantize_float.on(BACKEND)(x, e4m3, **options)
    fmt = FORMATS[e4m3]
    assert scale[:2, 0].tolist() == pytest.approx([2 / fmt.qmax, 100 / fmt.qmax], rel=2**-23)  # type: ignore[union-attr]
    assert (codes[0, 1], codes[1, 0]) == (fmt.max_code, fmt.max_code)  # type: ignore[union-attr]


def test_a_division_by_powers_of_two_is_a_product(e4m3: str) -> None:
    x = torch.randn(5, 64)
    for scale in (torch.tensor(0.25), torch.tensor([[127], [1], [254], [130], [120]], dtype=torch.uint8)):
        granularity = PER_TENSOR if scale.ndim == 0 else PER_TOKEN
        want = quantize_float(x, e4m3, scale, granularity=granularity)[0]
        assert_same_bits(quantize_float.on(BACKEND)(x, e4m3, scale, granularity=granularity)[0], want)
    want = quantize_float(x, e4m3, rule=ScaleRule.CEIL)[0]
    assert_same_bits(quantize_float.on(BACKEND)(x, e4m3, rule=ScaleRule.CEIL)[0], want)


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_scaled_values(e4m3: str, dtype: torch.dtype, scale_dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).expand(4, 256)
    scale = torch.tensor([[1.3], [0.1], [1e-4], [64.0]]).to(scale_dtype)
    options = {"granularity": PER_TOKEN, "dtype": dtype}
    want = dequantize_float(codes, scale, e4m3, **options)
    assert_same_bits(dequantize_float.on(BACKEND)(codes, scale, e4m3, **options), want)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (2, 3, 17)])
def test_shapes(e4m3: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    codes, scale = quantize_float.on(BACKEND)(x, e4m3, torch.tensor(0.5))
    assert_same_bits(codes, quantize_float(x, e4m3, torch.tensor(0.5))[0])
    assert dequantize_float.on(BACKEND)(codes, scale, e4m3).shape == shape


def test_views(e4m3: str) -> None:
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))[::2, 1::3].T
    assert_same_bits(encode.on(BACKEND)(x, e4m3), encode(x, e4m3))
    codes = encode(x, e4m3)[:, ::2]
    assert_same_bits(decode.on(BACKEND)(codes, e4m3), decode(codes, e4m3))


def test_nan_is_nan(e4m3: str) -> None:
    x = torch.tensor([torch.nan, -torch.nan], dtype=torch.bfloat16)
    assert decode(encode.on(BACKEND)(x, e4m3), e4m3).isnan().all()
    codes, _ = quantize_float.on(BACKEND)(x, e4m3, torch.tensor(2.0), **RECIPROCAL)
    assert decode(codes, e4m3).isnan().all()


def test_the_graph_is_cut_between_a_cast_and_the_one_back() -> None:
    x = torch.randn(3, 4)
    for mode, steps in (("lazy", 1), ("eager", 0), ("compile", 0)):
        with simulate("gaudi2", mode=mode) as simulation:
            codes, scale = quantize_float.on(BACKEND)(x, "float8_e4m3", torch.tensor(0.5))
            assert simulation.steps == 0
            dequantize_float.on(BACKEND)(codes, scale, "float8_e4m3")
            assert simulation.steps == steps


DECLINED = [
    (lambda: encode.on(BACKEND)(torch.ones(2), "float8_e4m3fnuz"), "gaudi2 has float8_e4m3 and float8_e5m2, got float8_e4m3fnuz"),
    (lambda: encode.on(BACKEND)(torch.ones(2), "float8_e4m3fn"), "gaudi2 has float8_e4m3 and float8_e5m2, got float8_e4m3fn"),
    (lambda: encode.on(BACKEND)(torch.ones(2), "int8"), "got int8"),
    (lambda: encode.on(BACKEND)(torch.ones(2).half(), "float8_e4m3"), "casts take torch.float32 or torch.bfloat16"),
    (lambda: encode.on(BACKEND)(torch.ones(2), "float8_e4m3", rounding=Rounding.TOWARD_ZERO), "casts round to nearest even"),
    (lambda: encode.on(BACKEND)(torch.ones(2), "float8_e4m3", overflow=Overflow.NONSATURATE), "casts saturate"),
    (lambda: encode.on(BACKEND)(torch.ones(2, device="meta"), "float8_e4m3"), "x must be on cpu, got meta"),
    (lambda: decode.on(BACKEND)(torch.ones(2, dtype=torch.uint8), "float8_e4m3", dtype=torch.float16), "casts give"),
    (lambda: quantize_float.on(BACKEND)(torch.ones(2), "float8_e4m3", torch.tensor(0.3)), "casts multiply with the reciprocal"),
    (lambda: quantize_float.on(BACKEND)(torch.ones(4, 4), "float8_e4m3", granularity=per_group(2)), "one scale for all of a dimension or for each"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "reason"), DECLINED)
def test_what_casts_cannot_do_is_declined(call: object, reason: str) -> None:
    with simulate("gaudi2"), pytest.raises(UnsupportedError, match=reason):
        call()  # type: ignore[operator]
