import pytest
import torch

from incref.formats import FORMATS, FloatFormat, Format, IntFormat
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.ops.contract import Exactness
from incref.ops.pack import pack, unpack

BYTE_FORMATS = [f for f in FORMATS.values() if f.bits <= 8 and not (isinstance(f, FloatFormat) and f.is_experimental)]


def u8(*codes: int) -> torch.Tensor:
    return torch.tensor(codes, dtype=torch.uint8)


def i8(*codes: int) -> torch.Tensor:
    return torch.tensor(codes, dtype=torch.int8)


def words(*unsigned: int) -> torch.Tensor:
    """int32 words, written as the unsigned numbers that one reads in hex."""
    return torch.tensor(unsigned, dtype=torch.int64).to(torch.int32)


# Each written by hand from the formula of the layout.
GOLDEN = [
    (PackLayout.BYTES, "uint4", u8(0x1, 0x2, 0x3), u8(0x21, 0x03)),
    (PackLayout.BYTES, "int4", i8(-1, 7, -8), u8(0x7F, 0x08)),
    (PackLayout.BYTES, "float4_e2m1fn", u8(0xF, 0x0, 0x6, 0x9), u8(0x0F, 0x96)),
    (PackLayout.BYTES, "mxfp4", u8(0xF, 0x0, 0x6, 0x9), u8(0x0F, 0x96)),
    (PackLayout.BYTES, "uint2", u8(1, 2, 3, 0, 3), u8(0b00111001, 0b11)),
    (PackLayout.BYTES, "int2", i8(1, -2, -1, 0), u8(0b00111001)),
    (PackLayout.BYTES, "uint1", u8(1, 0, 1, 1, 0, 0, 0, 1, 1), u8(0b10001101, 0b1)),
    (PackLayout.BYTES, "uint3", u8(0b101, 0b011, 0b111), u8(0b00011101, 0b00000111)),
    (PackLayout.BYTES, "uint8", u8(0xAB, 0xCD), u8(0xAB, 0xCD)),
    (PackLayout.BYTES, "int8", i8(-1, -128), u8(0xFF, 0x80)),
    (PackLayout.DENSE, "float6_e2m3fn", u8(0x3F, 0x00, 0x3F, 0x00), u8(0x3F, 0xF0, 0x03)),
    (PackLayout.DENSE, "float6_e3m2fn", u8(0x01, 0x02, 0x04, 0x08), u8(0x81, 0x40, 0x20)),
    (PackLayout.DENSE, "uint6", u8(0x2A, 0x15), u8(0x6A, 0x05)),
    (PackLayout.INT32, "uint4", u8(1, 2, 3, 4, 5, 6, 7, 8, 9), words(0x87654321, 0x9)),
    (PackLayout.INT32, "uint3", u8(7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1), words(0x38000007, 0x1)),
    (PackLayout.INT32, "uint8", u8(0x78, 0x56, 0x34, 0x12), words(0x12345678)),
    (PackLayout.INT32, "int4", i8(-1, -2, -3, -4, -5, -6, -7, -8), words(0x89ABCDEF)),
    (PackLayout.DENSE_INT32, "uint3", u8(*[0] * 10, 0b101, 0b001), words(0x40000000, 0x3)),
    (PackLayout.DENSE_INT32, "uint3", u8(*[0] * 21, 0b110, *[0] * 9, 0b111), words(0, 0, 0xE0000003)),
    (PackLayout.GPTQ_V1, "uint4", u8(8, 8, 8, 8, 8, 8, 8, 8), words(0x77777777)),
    (PackLayout.GPTQ_V1, "uint4", u8(0, 1, 15), words(0xE0F)),
    (PackLayout.GPTQ_V1, "uint2", u8(0, 1, 2, 3), words(0b10010011)),
    (PackLayout.GPTQ_V1, "uint8", u8(0, 255), words(0xFEFF)),
    (PackLayout.GPTQ_V2, "uint4", u8(0, 1, 15), words(0xF10)),
    (PackLayout.AWQ, "uint4", u8(0, 1, 2, 3, 4, 5, 6, 7), words(0x75316420)),
    (PackLayout.HPU, "uint4", u8(0, 1, 2, 3, 4, 5, 6, 7), words(0x76543210)),
]


@pytest.mark.parametrize(("layout", "fmt", "codes", "packed"), GOLDEN, ids=lambda value: getattr(value, "name", None))
def test_golden_words(layout: PackLayout, fmt: str, codes: torch.Tensor, packed: torch.Tensor) -> None:
    assert torch.equal(pack(codes, fmt, layout=layout), packed)
    assert torch.equal(unpack(packed, fmt, layout=layout, length=len(codes)), codes)


@pytest.mark.parametrize("fmt", BYTE_FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("layout", [PackLayout.BYTES, PackLayout.DENSE, PackLayout.INT32, PackLayout.DENSE_INT32])
def test_every_code_of_every_format_survives(fmt: Format, layout: PackLayout) -> None:
    element = getattr(fmt, "element", fmt)
    is_signed_int = isinstance(element, IntFormat) and element.is_signed
    low = element.min_code if is_signed_int else 0
    codes = torch.arange(low, low + element.num_codes).to(torch.int8 if is_signed_int else torch.uint8)
    packed = pack(codes, fmt, layout=layout)
    assert torch.equal(unpack(packed, fmt, layout=layout, length=len(codes)), codes)


def test_axis_of_weights_becomes_words() -> None:
    codes = torch.randint(0, 16, (16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gptq = pack(codes, "uint4", layout=PackLayout.GPTQ_V2, axis=0)
    assert gptq.shape == (2, 24)
    assert gptq[1, 5].item() % 2**32 == sum(int(codes[8 + j, 5]) << 4 * j for j in range(8))
    hpu = pack(codes, "uint4", layout=PackLayout.HPU, axis=1)
    assert hpu.shape == (16, 3)
    assert hpu[5, 1].item() % 2**32 == sum(int(codes[5, 8 + j]) << 4 * j for j in range(8))
    assert torch.equal(unpack(gptq, "uint4", layout=PackLayout.GPTQ_V2, axis=-2, length=16), codes)


def test_ten_three_bit_codes_in_a_word_is_not_the_dense_stream() -> None:
    codes = torch.ones(32, dtype=torch.uint8)
    assert pack(codes, "uint3", layout=PackLayout.INT32).shape == (4,)
    assert pack(codes, "uint3", layout=PackLayout.DENSE_INT32).shape == (3,)


def test_tail_is_filled_with_zero_bits_also_in_gptq_v1() -> None:
    assert pack(u8(5), "uint4", layout=PackLayout.GPTQ_V1).tolist() == [4]


def test_nothing_packs_to_nothing() -> None:
    packed = pack(torch.empty((3, 0), dtype=torch.uint8), "uint4", layout=PackLayout.BYTES)
    assert packed.shape == (3, 0)
    assert unpack(packed, "uint4", layout=PackLayout.BYTES, length=0).shape == (3, 0)


@pytest.mark.parametrize(
    ("codes", "fmt", "message"),
    [
        (u8(3, 16, 99), "uint4", "codes of uint4 must be from 0 to 15, got 16"),
        (i8(0, -9), "int4", "codes of int4 must be from -8 to 7, got -9"),
        (u8(64), "mxfp6_e2m3", "codes of float6_e2m3fn must be from 0 to 63, got 64"),
    ],
)
def test_a_code_out_of_range_is_named(codes: torch.Tensor, fmt: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(codes, fmt, layout=PackLayout.DENSE)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"codes of int4 must be torch\.int8, got torch\.uint8"):
        pack(u8(1), "int4", layout=PackLayout.BYTES)
    with pytest.raises(TypeError, match=r"words of INT32 must be torch\.int32, got torch\.uint8"):
        unpack(u8(1), "uint4", layout=PackLayout.INT32, length=2)


def test_a_layout_is_not_a_string() -> None:
    with pytest.raises(TypeError, match="layout must be a PackLayout, got 'bytes'"):
        pack(u8(1), "uint4", layout="bytes")


@pytest.mark.parametrize("layout", [PackLayout.AWQ, PackLayout.HPU])
def test_four_bit_layouts_refuse_other_widths(layout: PackLayout) -> None:
    with pytest.raises(ValueError, match=f"{layout.name} packs codes of 4 bits, got uint8 with 8"):
        pack(u8(1), "uint8", layout=layout)


def test_wide_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="got bfloat16 with 16"):
        pack(torch.zeros(4, dtype=torch.int16), "bfloat16", layout=PackLayout.BYTES)


@pytest.mark.parametrize("fmt", ["int4", "float4_e2m1fn", "nf4"])
def test_gptq_v1_is_for_zero_points(fmt: str) -> None:
    with pytest.raises(ValueError, match="GPTQ_V1 packs zero points, which are unsigned integers"):
        pack(i8(1) if fmt == "int4" else u8(1), fmt, layout=PackLayout.GPTQ_V1)


def test_length_and_words_must_agree() -> None:
    with pytest.raises(ValueError, match="5 codes of 4 bits take 3 words of BYTES, got 2 along axis 0"):
        unpack(u8(1, 2), "uint4", layout=PackLayout.BYTES, length=5)
    with pytest.raises(ValueError, match="-1 codes of 4 bits"):
        unpack(u8(), "uint4", layout=PackLayout.BYTES, length=-1)


@pytest.mark.parametrize("axis", [2, -3])
def test_axis_must_be_a_dimension(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis must be a dimension of the tensor, which has 2, got {axis}"):
        pack(torch.zeros((2, 2), dtype=torch.uint8), "uint4", layout=PackLayout.BYTES, axis=axis)


def test_a_single_code_has_no_axis() -> None:
    with pytest.raises(ValueError, match="which has 0"):
        pack(torch.zeros((), dtype=torch.uint8), "uint4", layout=PackLayout.BYTES)


@pytest.mark.parametrize(
    ("layout", "fmt"), [(PackLayout.DENSE, "uint6"), (PackLayout.INT32, "int4"), (PackLayout.AWQ, "uint4")]
)
def test_compiles_into_one_graph(layout: PackLayout, fmt: str) -> None:
    low, high = (-8, 8) if fmt == "int4" else (0, FORMATS[fmt].num_codes)
    codes = torch.randint(low, high, (5, 37), generator=torch.Generator().manual_seed(0))
    codes = codes.to(torch.int8 if fmt == "int4" else torch.uint8)

    def there(codes: torch.Tensor) -> torch.Tensor:
        return pack(codes, fmt, layout=layout)

    def back(packed: torch.Tensor) -> torch.Tensor:
        return unpack(packed, fmt, layout=layout, length=37)

    packed = there(codes)
    compiled = torch.compile(there, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(codes), packed)
    assert torch.equal(torch.compile(back, fullgraph=True, backend="aot_eager")(packed), codes)


def test_the_contract_is_bitwise() -> None:
    assert {pack.exactness, unpack.exactness} == {Exactness.E0}
    assert (pack.options, unpack.options) == ({"layout": PackLayout}, {"layout": PackLayout})
    assert set(LAYOUTS) == set(PackLayout)
