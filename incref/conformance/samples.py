"""Inputs that decide: every pattern of 16 bits, and for wider ones the places where an answer changes."""

import torch
from torch import Tensor

from incref.conformance.judge import LAYOUTS, bits_of, values_of
from incref.formats import FORMATS, BlockFormat, CodebookFormat, ElementFormat, FloatFormat
from incref.oracle.datum import number
from incref.oracle.ladder import ladder
from incref.oracle.powers import power_of_two

__all__ = [
    "ELEMENTS",
    "NARROW",
    "all_codes",
    "all_patterns",
    "block_rows",
    "boundaries",
    "code_dtype",
    "random_patterns",
    "specials",
]

ELEMENTS: tuple[ElementFormat, ...] = tuple(fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat))
"""Every format whose codes stand alone."""

NARROW: tuple[ElementFormat, ...] = tuple(fmt for fmt in ELEMENTS if fmt.bits <= 8)
"""Those whose codes fit a byte."""

_WIDE_SAMPLE = 257


def code_dtype(fmt: ElementFormat) -> torch.dtype:
    """Dtype that codes are held in, as the documentation of `encode` says."""
    if fmt.bits > 8:
        return torch.int16 if fmt.bits <= 16 else torch.int32
    return torch.uint8 if isinstance(fmt, FloatFormat | CodebookFormat) or not fmt.is_signed else torch.int8


def all_patterns(dtype: torch.dtype) -> Tensor:
    """Every value of a dtype of 16 bits, NaNs of every payload included."""
    return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)


def all_codes(fmt: ElementFormat) -> Tensor:
    """Every code of a format of at most 16 bits, in the dtype that holds them."""
    codes = torch.arange(1 << fmt.bits, dtype=torch.int32)
    if not isinstance(fmt, FloatFormat | CodebookFormat) and fmt.is_signed:
        codes -= 1 << (fmt.bits - 1)
    return codes.to(code_dtype(fmt))


def boundaries(fmt: ElementFormat, dtype: torch.dtype) -> Tensor:
    """List every value of `fmt`, every midpoint of two, and the neighbours of both in `dtype`, of either sign.

    The first value beyond the range is one of them, and `specials` follow. Of formats with more than 8 bits, some
    hundred values near the ends of the range and between, each with the next.
    """
    magnitudes = []
    for is_negative in (False, True):
        rungs = ladder(fmt, is_negative=is_negative)
        count, unit = len(rungs.magnitudes), power_of_two(rungs.exponent)
        places = {place + i for place in range(0, count, max(1, count // _WIDE_SAMPLE)) for i in (0, 1)}
        places |= set(range(min(count, 5))) | set(range(max(0, count - 5), count))
        for place in sorted(place for place in places if place < count):
            value = rungs.magnitudes[place] * unit
            above = rungs.magnitudes[place + 1] * unit if place + 1 < count else value
            magnitudes += [value, (value + above) / 2]
    limit = torch.finfo(dtype).max
    points = values_of([number(size) for size in sorted(set(magnitudes)) if size <= limit], dtype)
    infinity = torch.full_like(points, torch.inf)
    near = torch.cat([points, torch.nextafter(points, infinity), torch.nextafter(points, -infinity).abs()])
    if dtype is torch.float64:
        # A rounding to float32 on the way would make ties of these.
        near = torch.cat([near, points * (1 + 2.0**-50), points * (1 - 2.0**-50)])
    near = near.unique()
    return torch.cat([near, -near, specials(dtype)])


def specials(dtype: torch.dtype) -> Tensor:
    """Zeros, the ends of the subnormal and normal numbers, infinities and NaNs, of either sign."""
    info, layout = torch.finfo(dtype), LAYOUTS[dtype]
    smallest = 2.0 ** (layout.emin - layout.mantissa_bits)
    sizes = [0.0, smallest, info.tiny - smallest, info.tiny, 1.0, info.max, torch.inf, torch.nan]
    positive = bits_of(torch.tensor(sizes, dtype=torch.float64).to(dtype))
    return torch.cat([positive, positive ^ torch.iinfo(positive.dtype).min]).view(dtype)


def random_patterns(count: int, dtype: torch.dtype, *, seed: int = 0) -> Tensor:
    """Draw patterns of `dtype` uniformly: every exponent is as likely, NaN and Inf are among them."""
    generator = torch.Generator().manual_seed(seed)
    as_bytes = torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return as_bytes.view(dtype)


def block_rows(dtype: torch.dtype, width: int, *, seed: int = 0) -> Tensor:
    """Draw rows [rows, width] of every kind that a scale has to deal with.

    Magnitudes across the whole range of `dtype`, also within one row; rows of zeros, of one sign, of subnormals, of the
    greatest values; rows whose extremes are equal; rows with a NaN, an Inf, or both, of either sign.
    """
    generator = torch.Generator().manual_seed(seed)
    layout = LAYOUTS[dtype]
    least, most = layout.emin - layout.mantissa_bits, layout.emax
    noise = torch.randn(24, width, generator=generator, dtype=torch.float64)
    powers = torch.linspace(least, most - 3, 24, dtype=torch.float64).round().unsqueeze(1)
    wide = torch.randint(least, most, (6, width), generator=generator).to(torch.float64)
    plain = noise[:12] * torch.linspace(0.01, 60, 12, dtype=torch.float64).unsqueeze(1)
    zeros = torch.zeros(2, width, dtype=torch.float64)
    lone = torch.zeros(4, width, dtype=torch.float64)
    lone[0, -1], lone[1, 0] = 2.0**least, -3 * 2.0**least
    lone[2, width // 2], lone[3, 0] = torch.finfo(dtype).max, torch.finfo(dtype).min
    ends = torch.full((2, width), torch.finfo(dtype).max, dtype=torch.float64)
    ends[1, ::2] *= -1
    tied = noise[:2].clamp(-1, 1)
    tied[0, 0], tied[0, -1], tied[1, 0], tied[1, -1] = 3.0, -3.0, -3.0, 3.0
    special = noise[:6].clone()
    special[0, 1], special[1, 2], special[2, -1] = torch.nan, torch.inf, -torch.inf
    special[3, 0], special[3, 1] = torch.nan, torch.inf
    special[4, 1:] = 0.0
    special[4, 0], special[5] = torch.inf, torch.nan
    rows = torch.cat(
        [noise * 2**powers, noise[:6].sign() * 2**wide, plain, plain.abs(), -plain.abs(), zeros, lone, ends, tied]
    )
    rows = torch.cat([rows, special]).to(dtype)
    negative_zeros = torch.zeros(1, width, dtype=dtype).neg()
    negative_nan = bits_of(rows[-1:]) ^ torch.iinfo(bits_of(rows).dtype).min
    return torch.cat([rows, negative_zeros, negative_nan.view(dtype)])
