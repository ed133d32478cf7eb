import pytest
import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.formats.layouts import PackLayout
from incref.numerics.codes import code_dtype
from incref.ops import pack, unpack
from incref.ops.encode import get_element_format
from incref_kernels.cpu import BACKEND

pytestmark = pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite")

CASES = [
    ("int4", PackLayout.BYTES),
    ("uint4", PackLayout.GPTQ_V1),
    ("int4", PackLayout.GPTQ_V2),
    ("uint4", PackLayout.AWQ),
    ("int2", PackLayout.BYTES),
    ("float4_e2m1fn", PackLayout.BYTES),
    ("int8", PackLayout.INT32),
    ("uint8", PackLayout.BYTES),
]


def codes_of(fmt: str, *shape: int) -> Tensor:
    element = get_element_format(fmt)
    drawn = torch.randint(0, element.num_codes, shape, generator=torch.Generator().manual_seed(0))
    dtype = code_dtype(element)
    return (drawn - (element.num_codes // 2 if dtype is torch.int8 else 0)).to(dtype)


@pytest.mark.parametrize(("fmt", "layout"), CASES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_words_are_those_of_the_reference(fmt: str, layout: PackLayout, axis: int) -> None:
    codes = codes_of(fmt, 16, 24, 40)
    want = pack(codes, fmt, layout=layout, axis=axis)
    assert torch.equal(pack.on(BACKEND)(codes, fmt, layout=layout, axis=axis), want)


@pytest.mark.parametrize(("fmt", "layout"), CASES)
def test_codes_come_back(fmt: str, layout: PackLayout) -> None:
    codes = codes_of(fmt, 5, 48)
    words = pack(codes, fmt, layout=layout).repeat_interleave(2, 0)[::2]
    assert torch.equal(unpack.on(BACKEND)(words, fmt, layout=layout, length=48), codes)


def test_rows_that_end_within_a_word_are_filled_up_with_zeros() -> None:
    codes = codes_of("int4", 13, 37)
    want = pack(codes, "int4", layout=PackLayout.INT32, axis=0)
    assert torch.equal(pack.on(BACKEND)(codes, "int4", layout=PackLayout.INT32, axis=0), want)


def test_codes_may_lie_anywhere() -> None:
    codes = codes_of("int4", 64, 33)
    for one in (codes.mT, codes.view(-1)[1:2049].view(64, 32), codes[:, ::2][:, :16]):
        for axis in (0, 1):
            want = pack(one, "int4", layout=PackLayout.INT32, axis=axis)
            assert torch.equal(pack.on(BACKEND)(one, "int4", layout=PackLayout.INT32, axis=axis), want)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_no_code_is_refused(axis: int) -> None:
    codes = codes_of("int4", 16, 64)
    codes[3, 5] = 8
    with pytest.raises(ValueError, match="codes of int4 must be from -8 to 7, got 8"):
        pack.on(BACKEND)(codes, "int4", layout=PackLayout.BYTES, axis=axis)
    codes = codes_of("uint4", 16, 64)
    codes[3, 5] = 16
    with pytest.raises(ValueError, match="codes of uint4 must be from 0 to 15, got 16"):
        pack.on(BACKEND)(codes, "uint4", layout=PackLayout.BYTES, axis=axis)


def test_codes_that_do_not_fill_words_are_declined() -> None:
    with pytest.raises(UnsupportedError, match="codes that fill a word"):
        pack.on(BACKEND)(codes_of("int3", 4, 32), "int3", layout=PackLayout.DENSE)
    with pytest.raises(UnsupportedError, match="whole words of 8 codes, got 12 codes"):
        pack.on(BACKEND)(codes_of("int4", 4, 12), "int4", layout=PackLayout.INT32)
