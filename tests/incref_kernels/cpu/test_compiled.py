import pytest
import torch

from incref.formats import Rounding
from incref.ops import decode, encode
from incref_kernels.cpu import BACKEND

pytestmark = pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no C++ compiler")


def every_bfloat16() -> torch.Tensor:
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu"])
@pytest.mark.parametrize("rounding", [Rounding.NEAREST_EVEN, Rounding.TOWARD_POSITIVE])
def test_compiled_encode_gives_the_codes_of_the_reference(fmt: str, rounding: Rounding) -> None:
    x = every_bfloat16()
    assert torch.equal(encode.on(BACKEND)(x, fmt, rounding=rounding), encode(x, fmt, rounding=rounding))


def test_compiled_decode_gives_the_bits_of_the_reference() -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    got, want = decode.on(BACKEND)(codes, "float8_e4m3fn"), decode(codes, "float8_e4m3fn")
    assert torch.equal(got.view(torch.int32), want.view(torch.int32))


def test_a_tensor_elsewhere_is_declined_with_the_reason() -> None:
    why_not = BACKEND.kernels["encode"].why_not
    assert why_not(torch.empty(2, device="meta"), "e2m1") == "it takes tensors on the CPU, got one on meta"
