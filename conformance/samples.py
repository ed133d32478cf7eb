"""Inputs that decide: every pattern of 16 bits, and for wider ones the places where an answer changes."""

import torch
from torch import Tensor

from conformance.judge import LAYOUTS, bits_of, values_of
from incref.formats import FORMATS, BlockFormat, CodebookFormat, ElementFormat, FloatFormat
from incref.oracle.datum import number
from incref.oracle.ladder import ladder
from incref.oracle.powers import power_of_two

__all__ = ["ELEMENTS", "NARROW", "all_codes", "all_patterns", "boundaries", "code_dtype", "random_patterns", "specials"]

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

    The first value beyond the range is one of them, and `specials` follow. Of formats with more than 8 bits, some hundred
    values near the ends of the range and between, each with the next.
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
