"""What a processor that flushes subnormals does to the operations: nothing, or they refuse."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import ELEMENTS, all_codes, block_rows
from incref.errors import FlushDenormalError
from incref.formats import (
    FORMATS,
    BlockFormat,
    FloatFormat,
    IntFormat,
    NanRule,
    Overflow,
    Rounding,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Sequential
from incref.numerics.granularity import PER_TOKEN
from incref.ops import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    fp8_bmm,
    fp8_conv2d,
    fp8_matmul,
    int8_matmul,
    mx_matmul,
    quantize_affine,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MX = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale]


@contextmanager
def flushed() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't flush subnormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def name_of(value: object) -> str:
    return getattr(value, "name", None) or str(value).removeprefix("torch.")


def is_unchanged(run: Callable[[], list[Tensor]]) -> None:
    want = run()
    with flushed():
        got = run()
    for one, other in zip(got, want, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_encode_is_unchanged(dtype: torch.dtype) -> None:
    x = block_rows(dtype, 4)
    for large in (x, x.repeat(256, 1)):
        is_unchanged(
            lambda x=large: [
                encode(x, fmt, rounding=rounding, overflow=Overflow.SATURATE, nan=NanRule.MAX)
                for fmt in ("bfloat16", "float32", "e5m2", "float8_e8m0fnu", "binary8p1se", "nf4")
                for rounding in (Rounding.NEAREST_EVEN, Rounding.TOWARD_NEGATIVE)
            ]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=name_of)
def test_decode_is_unchanged(dtype: torch.dtype) -> None:
    holders = {"float16": (torch.float32, torch.float16), "bfloat16": (torch.float32, torch.bfloat16)}
    formats = [fmt for fmt in ELEMENTS if fmt.bits <= 8 or dtype in holders.get(fmt.name, ())]
    kept = [fmt for fmt in formats if not (dtype is torch.float16 and fmt.emax > 15) and fmt.name != "nf4"]
    kept = [fmt for fmt in kept if dtype is not torch.float16 or fmt.smallest_positive >= 2.0**-24]
    is_unchanged(lambda: [decode(all_codes(fmt), fmt, dtype=dtype) for fmt in kept])


def test_decode_to_float64_widens_no_subnormal_silently() -> None:
    codes = torch.tensor([0x0001], dtype=torch.int16)
    assert decode(codes, "bfloat16", dtype=torch.float64).item() == 2.0**-133
    with flushed(), pytest.raises(FlushDenormalError, match="decode to float64 computes with floats"):
        decode(codes, "bfloat16", dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_symmetric_scales_are_unchanged(dtype: torch.dtype) -> None:
    x = block_rows(dtype, 5)
    symmetric = [fmt for fmt in ELEMENTS if not (isinstance(fmt, IntFormat) and not fmt.is_signed)]
    symmetric = [fmt for fmt in symmetric if fmt.bits <= 16]
    is_unchanged(
        lambda: [
            compute_scale(x, fmt, PER_TOKEN, rule=rule, symmetric_scale=kind)
            for fmt in symmetric
            for rule in ScaleRule
            for kind in SymmetricScale
            if not (fmt.name == "nf4" and rule is ScaleRule.EVEN)
            and not (fmt.qmax > 2.0**126 and rule is ScaleRule.RECIPROCAL)
        ]
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_quantize_mx_is_unchanged(dtype: torch.dtype) -> None:
    x = block_rows(dtype, 48)
    for large in (x, x.repeat(20, 1)):
        is_unchanged(lambda x=large: [part for fmt in MX for part in quantize_mx(x, fmt, rule=ScaleRule.RCEIL)])


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "bfloat16"])
def test_a_subnormal_reciprocal_is_refused(name: str) -> None:
    with (
        flushed(),
        pytest.raises(FlushDenormalError, match=r"compute_scale by the reciprocal of \d\.\d+e\+38 computes"),
    ):
        compute_scale(X, name, rule=ScaleRule.RECIPROCAL)


MX_SCALES = torch.zeros(1, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.uint8)
FLOAT32 = FORMATS["float32"]
assert isinstance(FLOAT32, FloatFormat)
X, CODES, ONE = torch.ones(32), torch.zeros(32, dtype=torch.uint8), torch.tensor(1.0)
REFUSING: dict[str, Callable[[], object]] = {
    "compute_scale": lambda: compute_scale(X, "int8", symmetric=False),
    "quantize_affine": lambda: quantize_affine(X, "int8"),
    "dequantize_affine": lambda: dequantize_affine(CODES, ONE),
    "quantize_float": lambda: quantize_float(X, "e4m3fn"),
    "dequantize_float": lambda: dequantize_float(CODES, ONE, "e4m3fn"),
    "NVFP4 quantization": lambda: quantize_mx(X, "nvfp4"),
    "dequantize_mx": lambda: dequantize_mx(CODES, torch.zeros(1, dtype=torch.uint8), "mxfp4"),
    "int8_matmul": lambda: int8_matmul(CODES, CODES.view(1, 32).view(torch.int8), ONE),
    "weight_only_matmul": lambda: weight_only_matmul(X, CODES.view(1, 32), ONE, "e4m3fn"),
    "fp8_matmul": lambda: fp8_matmul(CODES, CODES.view(1, 32), None, None, x_fmt="e4m3fn", w_fmt="e4m3fn"),
    "mx_matmul": lambda: mx_matmul(CODES, CODES.view(1, 32), *MX_SCALES, x_fmt="mxfp4", w_fmt="mxfp4"),
    "accumulate": lambda: accumulate(X.view(1, 32), X.view(1, 32), FLOAT32, FLOAT32, Sequential()),
}


@pytest.mark.parametrize("operation", REFUSING)
def test_what_multiplies_floats_refuses(operation: str) -> None:
    REFUSING[operation]()
    with (
        flushed(),
        pytest.raises(FlushDenormalError, match=rf"{operation} computes with .* call torch\.set_flush_denormal"),
    ):
        REFUSING[operation]()


@pytest.mark.parametrize(
    "call",
    [
        lambda image: fp8_conv2d(image, image, None, None, x_fmt="e4m3fn", w_fmt="e4m3fn"),
        lambda image: fp8_bmm(image, image.mT, None, None, x_fmt="e4m3fn", y_fmt="e4m3fn"),
    ],
    ids=["convolutions", "batches"],
)
def test_what_is_made_of_products_refuses_as_they_do(call: Callable[[torch.Tensor], torch.Tensor]) -> None:
    image = CODES.view(1, 1, 4, 8)
    with (
        flushed(),
        pytest.raises(FlushDenormalError, match=r"fp8_matmul computes with .* call torch\.set_flush_denormal"),
    ):
        call(image)
