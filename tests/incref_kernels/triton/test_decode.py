import pytest
import torch

from incref.conformance.judge import assert_same_bits, bits_of
from incref.conformance.samples import ELEMENTS, NARROW, all_codes
from incref.formats import CodebookFormat, ElementFormat
from incref.ops import decode
from incref_kernels.triton import BACKEND

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
COMPUTED = [fmt for fmt in ELEMENTS if fmt.bits <= 16 and not isinstance(fmt, CodebookFormat)]
RUN = decode.on(BACKEND)


@pytest.mark.parametrize("fmt", COMPUTED, ids=lambda fmt: fmt.name)
def test_every_code_gets_the_value_of_the_reference(fmt: ElementFormat) -> None:
    codes = all_codes(fmt)
    for dtype in DTYPES:
        try:
            want = decode(codes, fmt, dtype=dtype)
        except ValueError as refused:
            with pytest.raises(ValueError, match=str(refused).partition(";")[0]):
                RUN(codes, fmt, dtype=dtype)
            continue
        assert_same_bits(RUN(codes, fmt, dtype=dtype), want, note=dtype)


@pytest.mark.parametrize("fmt", [fmt for fmt in NARROW if fmt in COMPUTED], ids=lambda fmt: fmt.name)
def test_a_nan_keeps_its_sign_and_bits_above_the_width_are_ignored(fmt: ElementFormat) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(all_codes(fmt).dtype)
    try:
        want = decode(codes, fmt)
    except ValueError:
        pytest.skip("float32 does not hold every value")
    assert torch.equal(bits_of(RUN(codes, fmt)), bits_of(want))


def test_strided_codes() -> None:
    codes = torch.arange(60, dtype=torch.uint8).view(6, 10).T[::3]
    assert_same_bits(RUN(codes, "e4m3fn"), decode(codes, "e4m3fn"))


def test_codes_of_another_dtype_are_refused() -> None:
    with pytest.raises(TypeError, match=r"codes of float8_e4m3fn must be torch\.uint8, got torch\.int8"):
        RUN(torch.zeros(2, dtype=torch.int8), "e4m3fn")
