"""The oracle's answers for whole tensors."""

from collections.abc import Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from incref.errors import NanError
from incref.formats import FORMATS, ElementFormat, FloatFormat, IntFormat, IntRange, NanRule, Overflow, Rounding
from incref.oracle.datum import Datum, datum_of
from incref.oracle.elements import ElementRules, encode_elements
from incref.oracle.encode import RandomBits
from incref.oracle.segments import encode_segments
from incref.oracle.values import all_codes, decode

__all__ = [
    "LAYOUTS",
    "assert_same_bits",
    "bits_of",
    "data_of",
    "decode_tensor",
    "encode_each",
    "encode_tensor",
    "random_data",
    "values_of",
]

LAYOUTS: dict[torch.dtype, FloatFormat] = {
    dtype: fmt
    for dtype, name in (
        (torch.float64, "float64"),
        (torch.float32, "float32"),
        (torch.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
    )
    if isinstance(fmt := FORMATS[name], FloatFormat)
}
"""The format whose codes are the bit patterns of a dtype."""

_LISTED_BITS = 16
"""Formats of at most so many bits are decoded by a list of all their codes."""

_REFUSED = -(1 << 62)
"""Stands for the code of what `NanRule.ERROR` refuses."""

_INTEGERS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def bits_of(x: Tensor) -> Tensor:
    """Bit patterns of floats, as signed integers of their width; integers as they are."""
    return x.view(_INTEGERS[8 * x.itemsize]) if x.is_floating_point() else x


def assert_same_bits(got: Tensor, want: Tensor, inputs: Tensor | None = None, *, note: object = "") -> None:
    """Check that two tensors have one dtype, shape and content: signs of zeros count, signs and payloads of NaNs don't.

    Raises:
        AssertionError: if not; the message shows the first place where they differ, and the input there.
    """
    assert got.dtype is want.dtype, f"{note}: got {got.dtype}, want {want.dtype}"
    assert got.shape == want.shape, f"{note}: got shape {tuple(got.shape)}, want {tuple(want.shape)}"
    differs = bits_of(got) != bits_of(want)
    if got.is_floating_point():
        differs &= ~(got.isnan() & want.isnan())
    if differs.any():
        at = tuple(differs.nonzero()[0].tolist())
        shown = "" if inputs is None else f" for {float(inputs[at]).hex()}"
        raise AssertionError(
            f"{note}: {int(differs.sum())} of {got.numel()} differ, "
            f"first at {at}: got {got[at]}, want {want[at]}{shown}"
        )


def data_of(x: Tensor) -> list[Datum]:
    """Read every element of a float tensor exactly, in row-major order."""
    return [datum_of(value) for value in x.to(torch.float64).flatten().tolist()]


def values_of(data: Sequence[Datum], dtype: torch.dtype) -> Tensor:
    """Hold data in a tensor, exactly."""
    numbers = [
        float("nan") if datum.is_nan else float(datum.magnitude) if datum.is_finite else float("inf") for datum in data
    ]
    signs = torch.tensor([-1.0 if datum.is_negative else 1.0 for datum in data], dtype=torch.float64)
    return torch.tensor(numbers, dtype=torch.float64).copysign(signs).to(dtype)


def random_data(random_bits: Tensor) -> list[RandomBits]:
    """Read random integers as unsigned numbers of the width of their dtype."""
    width = 8 * random_bits.itemsize
    return [RandomBits(value=value % (1 << width), width=width) for value in random_bits.flatten().tolist()]


def encode_each(x: Tensor, fmt: ElementFormat, rules: ElementRules, random_bits: Tensor | None = None) -> Tensor:
    """Encode the elements of `x` one after the other; int64 codes in the shape of `x`."""
    bits = None if random_bits is None else random_data(random_bits)
    codes = encode_elements(data_of(x), fmt, rules, bits)
    return torch.tensor(codes, dtype=torch.int64).view(x.shape)


def encode_tensor(
    x: Tensor,
    fmt: ElementFormat,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.MAX,
    int_range: IntRange = IntRange.FULL,
) -> Tensor:
    """Encode the elements of `x` by looking their patterns up among the oracle's segments; int64 codes.

    Raises:
        NanError: as for the oracle's `encode`.
    """
    first, code = _steps(LAYOUTS[x.dtype], fmt, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    found = torch.searchsorted(first, bits_of(x).contiguous(), right=True, out_int32=True) - 1
    codes = code.index_select(0, found.flatten()).view(x.shape)
    if nan is NanRule.ERROR and bool((codes == _REFUSED).any()):
        raise NanError(f"{fmt.name} has no NaN, got a value which is or becomes one; choose another NanRule")
    return codes


def decode_tensor(codes: Tensor, fmt: ElementFormat, dtype: torch.dtype) -> Tensor:
    """Decode to values of `dtype`, in the shape of `codes`."""
    numbers = codes.to(torch.int64).flatten()
    if not (isinstance(fmt, IntFormat) and fmt.is_signed):
        numbers = numbers & ((1 << fmt.bits) - 1)
    if fmt.bits <= _LISTED_BITS:
        return _all_values(fmt, dtype).index_select(0, numbers - all_codes(fmt).start).view(codes.shape)
    return values_of([decode(code, fmt) for code in numbers.tolist()], dtype).view(codes.shape)


@cache
def _all_values(fmt: ElementFormat, dtype: torch.dtype) -> Tensor:
    """What every code means, in the order of the codes."""
    return values_of([decode(code, fmt) for code in all_codes(fmt)], dtype)


@lru_cache(maxsize=1 << 13)
def _steps(
    layout: FloatFormat,
    fmt: ElementFormat,
    *,
    rounding: Rounding,
    overflow: Overflow,
    nan: NanRule,
    int_range: IntRange,
) -> tuple[Tensor, Tensor]:
    """The first pattern of every stretch with one code, as a signed integer in ascending order, and that code."""
    first, codes = [], []
    for is_negative in (True, False):
        segments = encode_segments(
            layout, fmt, is_negative=is_negative, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range
        )
        # With the sign bit set, patterns are negative integers, and they too grow with the magnitude.
        base = 1 << layout.bits if is_negative else 0
        first += [segment.first - base for segment in segments]
        codes += [_REFUSED if segment.code is None else segment.code for segment in segments]
    return torch.tensor(first, dtype=_INTEGERS[layout.bits]), torch.tensor(codes, dtype=torch.int64)
