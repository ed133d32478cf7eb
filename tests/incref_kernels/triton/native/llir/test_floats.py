import pytest
import torch

from incref_kernels.triton.native.llir.floats import canonical
from incref_kernels.triton.native.llir.lexer import tokens
from incref_kernels.triton.native.llir.types import FloatType


@pytest.mark.parametrize(
    ("text", "kind", "want"),
    [
        ("1.000000e+00", "float", "0x3FF0000000000000"),
        ("f0x3FB8AA3B", "float", "0x3FF7154760000000"),
        ("0x3FF7154760000000", "float", "0x3FF7154760000000"),
        ("f0x00000001", "float", "0x36A0000000000000"),
        ("-inf", "float", "0xFFF0000000000000"),
        ("+inf", "double", "0x7FF0000000000000"),
        ("+qnan", "float", "0x7FF8000000000000"),
        ("-nan(0x1)", "float", "0xFFF0000020000000"),
        ("f0x7FC00001", "float", "0x7FF8000020000000"),
        ("1.5", "half", "0xH3E00"),
        ("0xH3C00", "half", "0xH3C00"),
        ("-0.0", "half", "0xH8000"),
        ("0xR3F80", "bfloat", "16256"),
        ("2.0", "bfloat", "16384"),
        ("+inf", "bfloat", "32640"),
        # LLVM's spelling of 2**-127, a little below it.
        ("5.877470e-39", "bfloat", "64"),
        ("5.000000e-01", "double", "0x3FE0000000000000"),
    ],
)
def test_every_spelling_becomes_the_bits(text: str, kind: str, want: str) -> None:
    assert canonical(text, FloatType(kind)) == want


@pytest.mark.parametrize(("kind", "dtype"), [("half", torch.float16), ("bfloat", torch.bfloat16)])
def test_seven_digits_become_the_nearest_value(kind: str, dtype: torch.dtype) -> None:
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    values = values[values.isfinite()]
    got = [
        int(canonical(f"{value:e}", FloatType(kind)).removeprefix("0xH"), 16 if kind == "half" else 10)
        for value in values.tolist()
    ]
    assert got == (values.view(torch.int16).to(torch.int32) & 0xFFFF).tolist()


def test_a_nan_in_brackets_is_one_word() -> None:
    assert [token.text for token in tokens("splat (bfloat +nan(0x3F))")][-4:-1] == ["bfloat", "+nan(0x3F)", ")"]
