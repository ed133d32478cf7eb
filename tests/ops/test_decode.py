"""`decode` against the oracle: every code."""

import pytest
import torch

from incref.conformance.judge import assert_same_bits, bits_of, values_of
from incref.conformance.samples import ELEMENTS, all_codes
from incref.formats import ElementFormat, FloatFormat, IntFormat, Overflow, get_format
from incref.ops import decode, encode
from incref.oracle.datum import Datum
from incref.oracle.values import decode as oracle_decode

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def name_of(value: object) -> str:
    return getattr(value, "name", None) or str(value).removeprefix("torch.")


def holds(dtype: torch.dtype, data: list[Datum]) -> bool:
    """Whether a dtype has every value, by converting each of them there and back."""
    exact = values_of(data, torch.float64)
    back = exact.to(dtype).to(torch.float64)
    return bool(((back == exact) | exact.isnan()).all())


def codes_of(fmt: ElementFormat) -> torch.Tensor:
    if fmt.bits <= 16:
        return all_codes(fmt)
    some = torch.arange(0, 1 << fmt.bits, (1 << fmt.bits) // 4093, dtype=torch.int64)
    ends = torch.arange(5, dtype=torch.int64)
    return torch.cat([some, ends, (1 << fmt.bits) - 1 - ends]).to(torch.int32)


@pytest.mark.parametrize("fmt", [fmt for fmt in ELEMENTS if fmt.name != "float64"], ids=name_of)
def test_every_code_means_what_the_oracle_says(fmt: ElementFormat) -> None:
    codes = codes_of(fmt)
    is_signed_int = isinstance(fmt, IntFormat) and fmt.is_signed
    data = [oracle_decode(code if is_signed_int else code % fmt.num_codes, fmt) for code in codes.tolist()]
    for dtype in DTYPES:
        if not holds(dtype, data):
            with pytest.raises(ValueError, match=f"{dtype} does not hold every value of {fmt.name} exactly; decode to"):
                decode(codes, fmt, dtype=dtype)
            continue
        # In small pieces too: a conversion of one element is not that of a vector in every build of PyTorch.
        for pieces in (codes.split(len(codes)), codes[-201:].split(3)):
            want = values_of(data, dtype)[-sum(map(len, pieces)) :]
            got = torch.cat([decode(piece, fmt, dtype=dtype) for piece in pieces])
            assert_same_bits(got, want, note=dtype)
            if isinstance(fmt, FloatFormat) and fmt.has_signed_nan:
                signs = torch.tensor([datum.is_negative for datum in data[-len(got) :]])
                assert torch.equal(bits_of(got) < 0, signs)


@pytest.mark.parametrize("fmt", [fmt for fmt in ELEMENTS if fmt.bits <= 16], ids=name_of)
def test_encode_undoes_decode(fmt: ElementFormat) -> None:
    codes = all_codes(fmt)
    values = decode(codes, fmt)
    again = encode(values, fmt, overflow=Overflow.NONSATURATE)
    # The payload of a NaN is dropped: every NaN of one sign gets one code.
    is_number = ~values.isnan()
    assert torch.equal(again[is_number], codes[is_number])
    if isinstance(fmt, FloatFormat) and fmt.nan_code is not None:
        found = {code % fmt.num_codes for code in again[~is_number].tolist()}
        assert found <= {fmt.nan_code, fmt.nan_code | fmt.sign_code}


@pytest.mark.parametrize("name", ["e2m1", "uint3", "float6_e3m2fn", "nf4"])
def test_bits_above_the_width_are_ignored(name: str) -> None:
    fmt = get_format(name)
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    assert torch.equal(decode(codes, name), decode(codes % fmt.num_codes, name))


def test_golden_values() -> None:
    assert decode(torch.tensor([0x7E, 0x08, 0x01, 0x80], dtype=torch.uint8), "e4m3fn").tolist() == [
        448,
        2**-6,
        2**-9,
        0,
    ]
    assert decode(torch.tensor([0, 254], dtype=torch.uint8), "float8_e8m0fnu").tolist() == [2.0**-127, 2.0**127]
    assert decode(torch.tensor([-128, 127], dtype=torch.int8), "mxint8_element").tolist() == [-2.0, 1.984375]


@pytest.mark.parametrize(
    ("name", "dtype"), [("int8", torch.uint8), ("e4m3fn", torch.int8), ("bfloat16", torch.int32), ("tf32", torch.int16)]
)
def test_codes_of_another_dtype_are_refused(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"codes of {get_format(name).name} must be torch.*, got {dtype}"):
        decode(torch.zeros(3, dtype=dtype), name)


def test_formats_without_codes_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="mxfp4 shares scales between elements"):
        decode(torch.zeros(3, dtype=torch.uint8), "mxfp4")
    with pytest.raises(ValueError, match="no format is called"):
        decode(torch.zeros(3, dtype=torch.uint8), "float7")
    with pytest.raises(ValueError, match=r"torch\.float32 does not hold every value of float64 exactly; decode to"):
        decode(torch.zeros(3, dtype=torch.int32), "float64")


def test_values_are_floats() -> None:
    with pytest.raises(TypeError, match=r"values must be one of torch\.float16, .*, got torch\.int32"):
        decode(torch.zeros(3, dtype=torch.uint8), "e4m3fn", dtype=torch.int32)
