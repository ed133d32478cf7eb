import pytest
import torch

from incref.conformance.judge import encode_tensor
from incref.conformance.samples import NARROW, all_patterns, boundaries, code_dtype, random_patterns
from incref.errors import NanError, UnsupportedError
from incref.formats import FORMATS, CodebookFormat, ElementFormat, IntRange, NanRule, Overflow, Rounding, get_format
from incref.ops import encode
from incref_kernels.triton import BACKEND
from incref_kernels.triton.encode import TILE
from incref_kernels.triton.encode import encode as launch_encode

COMPUTED = [fmt for fmt in NARROW if not isinstance(fmt, CodebookFormat)]
DETERMINISTIC = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
RUN = encode.on(BACKEND)


def assert_codes(got: torch.Tensor, want: torch.Tensor, note: object) -> None:
    assert torch.equal(got, want), f"{note}: {int((got != want).sum())} of {want.numel()} differ"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("fmt", COMPUTED, ids=lambda fmt: fmt.name)
def test_every_narrow_value_gets_the_code_of_the_oracle(fmt: ElementFormat, dtype: torch.dtype) -> None:
    # What is left out here for the sake of time, conformance.triton_l2 runs.
    roundings = [Rounding.NEAREST_EVEN] if fmt.is_experimental else DETERMINISTIC
    x = all_patterns(dtype)
    for rounding in roundings:
        for overflow in Overflow:
            want = encode_tensor(x, fmt, rounding=rounding, overflow=overflow).to(code_dtype(fmt))
            got = RUN(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.MAX)
            assert_codes(got, want, (rounding, overflow))


@pytest.mark.parametrize("fmt", COMPUTED, ids=lambda fmt: fmt.name)
def test_float32_values_around_every_boundary_get_the_code_of_the_oracle(fmt: ElementFormat) -> None:
    x = torch.cat([boundaries(fmt, torch.float32), random_patterns(2048, torch.float32)])
    for rounding in DETERMINISTIC:
        want = encode_tensor(x, fmt, rounding=rounding).to(code_dtype(fmt))
        assert_codes(RUN(x, fmt, rounding=rounding, nan=NanRule.MAX), want, rounding)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float6_e3m2fn", "binary8p3ue", "int8"])
def test_float64_is_rounded_once(name: str) -> None:
    fmt = get_format(name)
    assert not hasattr(fmt, "element")
    x = torch.cat([boundaries(fmt, torch.float64), random_patterns(4096, torch.float64)])  # type: ignore[arg-type]
    for overflow in Overflow:
        assert_codes(
            RUN(x, fmt, overflow=overflow, nan=NanRule.ZERO),
            encode(x, fmt, overflow=overflow, nan=NanRule.ZERO),
            overflow,
        )


@pytest.mark.parametrize("name", ["float16", "bfloat16", "tf32", "int16"])
def test_formats_of_more_than_a_byte(name: str) -> None:
    x = torch.cat([boundaries(FORMATS[name], torch.float32), random_patterns(4096, torch.float32)])  # type: ignore[arg-type]
    assert_codes(RUN(x, name, nan=NanRule.MAX), encode(x, name, nan=NanRule.MAX), name)


@pytest.mark.parametrize("random_dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
@pytest.mark.parametrize("name", ["float8_e5m2", "float4_e2m1fn", "float8_e8m0fnu", "int4"])
def test_stochastic_rounding_takes_the_given_bits(name: str, random_dtype: torch.dtype) -> None:
    x = torch.randn(1 << 14, generator=torch.Generator().manual_seed(0))
    bits = random_patterns(x.numel(), torch.float32, seed=1).view(torch.int32)
    bits = (bits & 0xFF).to(random_dtype) if random_dtype is torch.uint8 else bits.to(random_dtype)
    want = encode(x, name, rounding=Rounding.STOCHASTIC, random_bits=bits)
    assert_codes(RUN(x, name, rounding=Rounding.STOCHASTIC, random_bits=bits), want, name)


def test_the_restricted_range_leaves_out_the_least_code() -> None:
    x = torch.tensor([-200.0, -128.0, -127.5, 127.0])
    assert RUN(x, "int8", int_range=IntRange.RESTRICTED).tolist() == [-127, -127, -127, 127]


def test_the_shipped_tile_gives_the_same_codes_in_every_program() -> None:
    x = random_patterns(2 * TILE.elements + 5, torch.float32)
    assert_codes(launch_encode(x, "e4m3fn", tile=TILE), encode(x, "e4m3fn"), TILE)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (3, 5, 7)], ids=str)
def test_every_shape(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 1.5)
    assert_codes(RUN(x, "e4m3fn"), encode(x, "e4m3fn"), shape)


def test_strided_tensors() -> None:
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(0)).T[1::2]
    assert_codes(RUN(x, "e4m3fn"), encode(x, "e4m3fn"), x.stride())


def test_a_nan_without_a_code_is_refused() -> None:
    with pytest.raises(NanError, match="float4_e2m1fn has no NaN"):
        RUN(torch.tensor([1.0, torch.nan]), "e2m1")


def test_what_the_kernel_declines() -> None:
    with pytest.raises(UnsupportedError, match="it takes tensors on cpu, got x on meta"):
        RUN(torch.empty(2, device="meta"), "e2m1")
    with pytest.raises(UnsupportedError, match="those of nf4 are places in a list"):
        RUN(torch.ones(2), "nf4")
    with pytest.raises(UnsupportedError, match="it takes codes of at most 31 bits, got float32"):
        RUN(torch.ones(2), "float32")
