"""The same codes as `encode_patterns`, looked up: for large tensors in eager mode, where each operation is a pass.

A code depends on few bits of a binary32: its sign, its exponent, the leading bits of its fraction, and whether any bit
below those is set. Where the grid of a format and the midpoints between its values are multiples of `2**-f` in units of
the leading bit, `f` fraction bits and that one sticky bit tell on which side of every value and midpoint a number lies,
and so they determine its code in every rounding mode but the stochastic one. So the codes of all such prefixes,
computed by `encode_patterns` from a number that has each prefix, are a table of the whole conversion. Of a 16-bit
source the prefix is the pattern.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from incref.formats import CodebookFormat, FloatFormat, NanRule, Overflow, Rounding
from incref.numerics.checks import is_eager, require_not_nan
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.patterns import Patterns, float_format_of, patterns_of

__all__ = ["CodeTable", "encode_into", "encode_values", "find_table"]

_LEAST_ELEMENTS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CodeTable:
    """Codes of all prefixes.

    Attributes:
        codes: in the order of the prefixes read as unsigned.
        dropped_bits: how many low bits of a binary32 pattern are merged into the last bit of its prefix; None for
            patterns of 16 bits, which are not shortened.
    """

    codes: Tensor
    dropped_bits: int | None

    def write(self, out: Tensor, x: Tensor) -> None:
        """Write the codes of `x`, values of the dtype that the table is for, to `out`, of its shape."""
        index = self._prefixes(x)
        if out.is_contiguous() and index.is_contiguous():
            torch.index_select(self.codes, 0, index.view(-1), out=out.view(-1))
        else:
            out.copy_(self.codes.index_select(0, index.reshape(-1)).view(x.shape))

    def _prefixes(self, x: Tensor) -> Tensor:
        if self.dropped_bits is None:
            return x.view(torch.int16).to(torch.int32).bitwise_and_(len(self.codes) - 1)
        bits, low = x.view(torch.int32), (1 << self.dropped_bits) - 1
        # The sum carries into the last bit of the prefix exactly if a dropped bit is set.
        index = (bits & low).add_(low).bitwise_or_(bits).bitwise_right_shift_(self.dropped_bits)
        return index.bitwise_and_(len(self.codes) - 1)


def find_table(to: Encoding, dtype: torch.dtype, numel: int, device: torch.device) -> CodeTable | None:
    """Find the table for `numel` values of `dtype`; None where there is none or it does not pay."""
    if (
        not is_eager()
        or numel < _LEAST_ELEMENTS
        or to.rounding is Rounding.STOCHASTIC
        or to.fmt.bits > 8
        or (dtype is torch.float32 and isinstance(to.fmt, CodebookFormat))
        or dtype is torch.float64
    ):
        return None
    if to.nan is NanRule.ERROR:
        if to.overflow is not Overflow.SATURATE:
            return None
        to = replace(to, nan=NanRule.ZERO)
    return _build_table(to, dtype, device)


@lru_cache(maxsize=64)
def _build_table(to: Encoding, dtype: torch.dtype, device: torch.device) -> CodeTable:
    if dtype is not torch.float32:
        values = torch.arange(1 << 16, dtype=torch.int32, device=device).to(torch.int16).view(dtype)
        return CodeTable(codes=encode_patterns(patterns_of(values), to).to(code_dtype(to.fmt)), dropped_bits=None)
    layout = float_format_of(torch.float32)
    dropped = layout.mantissa_bits - _kept_bits(to, layout)
    prefixes = torch.arange(1 << (layout.bits - dropped), dtype=torch.int64, device=device) << dropped
    signed = prefixes.to(torch.int32)
    source = Patterns(signed=signed, magnitude=signed & (layout.sign_code - 1), layout=layout)
    return CodeTable(codes=encode_patterns(source, to).to(code_dtype(to.fmt)), dropped_bits=dropped)


def _kept_bits(to: Encoding, layout: FloatFormat) -> int:
    """Fraction bits of a prefix, the sticky one included."""
    if isinstance(to.fmt, FloatFormat):
        # Values are multiples of 2**-mantissa_bits in units of the leading bit, midpoints of half that. A grid that
        # goes on below the normal numbers of the source is a fixed one in units of the smallest of those.
        midpoint_bits = to.fmt.mantissa_bits + 1
        midpoint_bits = max(midpoint_bits, layout.emin - (to.fmt.emin - to.fmt.mantissa_bits) + 1)
    else:
        # Midpoints of integers are multiples of 1/2, and from 2**bits on every number is outside the range.
        midpoint_bits = to.fmt.bits
    return midpoint_bits + 1


def encode_values(x: Tensor, to: Encoding, table: CodeTable | None, *, random_bits: Tensor | None = None) -> Tensor:
    """Encode `x`, by `table` if there is one; see `encode_patterns`."""
    if table is None:
        return encode_patterns(patterns_of(x), to, random_bits=random_bits)
    codes = torch.empty(x.shape, dtype=table.codes.dtype, device=x.device)
    encode_into(codes, x, to, table)
    return codes


def encode_into(
    out: Tensor, x: Tensor, to: Encoding, table: CodeTable | None, *, random_bits: Tensor | None = None
) -> None:
    """Write what `encode_values` gives to `out`, a tensor of the shape of `x`."""
    if table is None:
        out.copy_(encode_patterns(patterns_of(x), to, random_bits=random_bits))
        return
    if to.nan is NanRule.ERROR and (not isinstance(to.fmt, FloatFormat) or to.fmt.nan_code is None):
        require_not_nan(x.isnan(), f"{to.fmt.name} has no NaN for the elements that are NaN")
    table.write(out, x)
