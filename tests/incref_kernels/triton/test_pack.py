import pytest
import torch

from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import get_format
from incref.formats.layouts import PackLayout
from incref.ops import pack, unpack
from incref_kernels.triton import BACKEND
from incref_kernels.triton.pack import pack as launch_pack
from incref_kernels.triton.pack import unpack as launch_unpack
from incref_kernels.triton.tiles import Tile

PACK, UNPACK = pack.on(BACKEND), unpack.on(BACKEND)
SMALL = Tile(elements=16, num_warps=1)
CASES = [
    ("int2", PackLayout.BYTES),
    ("uint3", PackLayout.BYTES),
    ("float6_e2m3fn", PackLayout.DENSE),
    ("uint3", PackLayout.INT32),
    ("uint5", PackLayout.DENSE_INT32),
    ("uint3", PackLayout.GPTQ_V1),
    ("uint4", PackLayout.GPTQ_V1),
    ("uint4", PackLayout.GPTQ_V2),
    ("int4", PackLayout.AWQ),
    ("float4_e2m1fn", PackLayout.HPU),
    ("int8", PackLayout.INT32),
]


def codes(name: str, *shape: int) -> torch.Tensor:
    fmt = get_format(name)
    least, most = (fmt.min_code, fmt.max_code) if hasattr(fmt, "min_code") else (0, fmt.num_codes - 1)  # type: ignore[union-attr]
    dtype = torch.int8 if least < 0 else torch.uint8
    return torch.randint(least, most + 1, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(("name", "layout"), CASES, ids=str)
def test_words_and_codes_of_the_reference(name: str, layout: PackLayout, axis: int) -> None:
    x = codes(name, 37, 41)
    words = pack(x, name, layout=layout, axis=axis)
    assert_same_bits(launch_pack(x, name, layout=layout, axis=axis, tile=SMALL), words)
    length = x.shape[axis]
    assert_same_bits(launch_unpack(words, name, layout=layout, axis=axis, length=length, tile=SMALL), x)


def test_bits_that_no_code_owns_are_ignored() -> None:
    words = torch.full((3, 2), -1, dtype=torch.int32)
    want = unpack(words, "uint3", layout=PackLayout.INT32, length=17)
    assert_same_bits(UNPACK(words, "uint3", layout=PackLayout.INT32, length=17), want)


@pytest.mark.parametrize("shape", [(64,), (3, 64), (0, 64), (3, 0), (2, 3, 8)], ids=str)
def test_every_shape(shape: tuple[int, ...]) -> None:
    x = codes("uint4", *shape)
    words = pack(x, "uint4", layout=PackLayout.INT32)
    assert_same_bits(PACK(x, "uint4", layout=PackLayout.INT32), words)
    assert_same_bits(UNPACK(words, "uint4", layout=PackLayout.INT32, length=shape[-1]), x)


def test_strided_tensors() -> None:
    x = codes("uint4", 16, 24).T[1::2]
    assert_same_bits(PACK(x, "uint4", layout=PackLayout.BYTES), pack(x, "uint4", layout=PackLayout.BYTES))


def test_codes_outside_the_range_are_refused() -> None:
    for name, bad in (("uint4", 16), ("int4", -9), ("int4", 8)):
        x = codes(name, 5, 8)
        x[3, 4] = bad
        with pytest.raises(ValueError, match=f"must be from .* got {bad}"):
            PACK(x, name, layout=PackLayout.BYTES)


def test_what_is_refused() -> None:
    x = codes("uint4", 4, 8)
    with pytest.raises(UnsupportedError, match="got x on meta"):
        PACK(x.to("meta"), "uint4", layout=PackLayout.BYTES)
    with pytest.raises(ValueError, match="8 codes of 4 bits take 4 words of BYTES, got 8"):
        UNPACK(x, "uint4", layout=PackLayout.BYTES, length=8)
    with pytest.raises(TypeError, match=r"words of INT32 must be torch\.int32"):
        UNPACK(x, "uint4", layout=PackLayout.INT32, length=8)
    with pytest.raises(ValueError, match="AWQ packs codes of 4 bits"):
        PACK(codes("uint8", 4, 8), "uint8", layout=PackLayout.AWQ)
