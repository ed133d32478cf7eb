"""Codes to values, exactly."""

import math
from functools import cache, lru_cache

import torch
from torch import Tensor

from incref.formats import FORMATS, CodebookFormat, ElementFormat, FloatFormat, IntFormat
from incref.numerics.checks import is_eager
from incref.numerics.constant import constant_in_graphs
from incref.numerics.patterns import float_format_of, widen

__all__ = ["decode_codes", "decode_into", "require_exact", "value_table"]

_TABLE_BITS = 8


def require_exact(fmt: ElementFormat, dtype: torch.dtype) -> None:
    """Check that `dtype` holds every value of `fmt` exactly.

    Raises:
        ValueError: if it does not; the message names a dtype that does.
    """
    to = float_format_of(dtype)
    if isinstance(fmt, FloatFormat):
        fits = fmt.mantissa_bits <= to.mantissa_bits and fmt.emax <= to.emax
        fits = fits and fmt.emin - fmt.mantissa_bits >= to.emin - to.mantissa_bits
    elif isinstance(fmt, IntFormat):
        fits = fmt.bits - fmt.is_signed <= to.mantissa_bits + 1 and fmt.emax < to.emax
    else:
        fits = to.mantissa_bits >= float_format_of(torch.float32).mantissa_bits
    if not fits:
        exact = torch.float64 if fmt.name == "float64" else torch.float32
        raise ValueError(f"{dtype} does not hold every value of {fmt.name} exactly; decode to {exact} and convert")


def value_table(fmt: ElementFormat, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Value of every byte that holds a code of a format of at most 8 bits, in the order of the bytes as unsigned."""
    # By name where there is one: PyTorch 2.11 can't take an object as a constant.
    is_named = _NAMED.get(fmt.name) is fmt
    values = _patterns_by_name(fmt.name, dtype) if is_named else _value_patterns(fmt, dtype)
    patterns = torch.tensor(values, dtype=_PATTERN_DTYPES[dtype], device=device)
    # Repeated for every byte, so that bits above the width of the format are ignored.
    return patterns.view(dtype).repeat((1 << _TABLE_BITS) // fmt.num_codes)


_PATTERN_DTYPES = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


@constant_in_graphs
def _value_patterns(fmt: ElementFormat, dtype: torch.dtype) -> list[int]:
    return list(_patterns_of_values(fmt, float_format_of(dtype)))


@constant_in_graphs
def _patterns_by_name(name: str, dtype: torch.dtype) -> list[int]:
    return _value_patterns(_NAMED[name], dtype)


_NAMED: dict[str, ElementFormat] = {
    fmt.name: fmt for fmt in FORMATS.values() if isinstance(fmt, FloatFormat | IntFormat | CodebookFormat)
}


@cache
def _patterns_of_values(fmt: ElementFormat, layout: FloatFormat) -> tuple[int, ...]:
    """Bit patterns, as signed integers, of the values of `fmt`, which `layout` holds.

    In integers: a conversion between float types, `struct.pack` too, flushes subnormals where the processor does.
    """
    patterns = (_pattern(abs(value), layout) - (layout.sign_code if _is_negative(value) else 0) for value in fmt.values)
    return tuple(patterns)


def _pattern(size: float, layout: FloatFormat) -> int:
    """Bit pattern of a value that is not negative."""
    assert layout.nan_code is not None
    assert layout.inf_code is not None
    if math.isnan(size):
        return layout.nan_code
    if math.isinf(size):
        return layout.inf_code
    if size == 0:
        return 0
    # frexp counts from 1/2. Below the smallest normal value the steps stay what they are there, without a leading one.
    binade = max(math.frexp(size)[1] - 1, layout.emin) - layout.emin
    steps = int(math.ldexp(size, layout.mantissa_bits - layout.emin - binade))
    return steps + (binade << layout.mantissa_bits)


def _is_negative(value: float) -> bool:
    return math.copysign(1.0, value) < 0


def decode_into(out: Tensor, codes: Tensor, fmt: ElementFormat, table: Tensor | None) -> None:
    """Write the values of `codes` to `out`, a tensor of their shape; in one pass where it is contiguous."""
    if fmt.bits > _TABLE_BITS or not out.is_contiguous() or not is_eager():
        out.copy_(decode_codes(codes, fmt, out.dtype, table))
    elif _come_in_pairs(out, codes):
        pairs = _pair_table(fmt, out.dtype, out.device)
        index = codes.view(-1).view(torch.int16).to(torch.int32).bitwise_and_(len(pairs) - 1)
        torch.index_select(pairs, 0, index, out=out.view(-1).view(pairs.dtype))
    else:
        assert table is not None
        torch.index_select(table, 0, _byte_index(codes), out=out.view(-1))


_PAIR_DTYPES = {torch.float32: torch.int64, torch.bfloat16: torch.int32, torch.float16: torch.int32}
_LEAST_PAIRED = 1 << 16


def _come_in_pairs(out: Tensor, codes: Tensor) -> bool:
    """Whether codes can be read, and values written, two at a time, and there are enough of them to pay for a table."""
    is_even = codes.numel() % 2 == 0 and codes.storage_offset() % 2 == 0 and out.storage_offset() % 2 == 0
    return is_even and codes.is_contiguous() and codes.numel() >= _LEAST_PAIRED and out.dtype in _PAIR_DTYPES


@lru_cache(maxsize=16)
def _pair_table(fmt: ElementFormat, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Both values of every two bytes, as one integer, in the order of the two bytes read as one unsigned number."""
    both = torch.arange(1 << 16, dtype=torch.int32, device=device).to(torch.int16).view(torch.uint8)
    values = value_table(fmt, dtype, device).index_select(0, both.to(torch.int32))
    return values.view(_PAIR_DTYPES[dtype])


def _byte_index(codes: Tensor) -> Tensor:
    return codes.reshape(-1).view(torch.uint8).to(torch.int32)


def decode_codes(codes: Tensor, fmt: ElementFormat, dtype: torch.dtype, table: Tensor | None) -> Tensor:
    """Decode `codes`, one code an element.

    Args:
        codes: integers, any shape; of at most 8 bits, or wider ones with the value of a byte.
        fmt: their format.
        dtype: of the values, one for which `require_exact` passes.
        table: `value_table(fmt, dtype, device)`, needed where `fmt` has at most 8 bits.
    """
    if fmt.bits <= _TABLE_BITS:
        assert table is not None
        index = _byte_index(codes if codes.itemsize == 1 else codes.to(torch.uint8))
        return table.index_select(0, index).view(codes.shape)
    if isinstance(fmt, IntFormat | CodebookFormat):
        return codes.to(dtype) * fmt.smallest_positive
    if fmt.bits == 16 and fmt is float_format_of(dtype):
        return codes.view(dtype)
    if fmt.name == "float16":
        return widen(codes.view(torch.float16)).to(dtype)
    # bfloat16 and tf32 are the upper part of a float32.
    upper = float_format_of(torch.float32).bits - fmt.bits
    return (codes.to(torch.int32) << upper).view(torch.float32).to(dtype)
