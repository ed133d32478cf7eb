"""Rows of values that share a scale: magnitudes at which a scale or a code changes, in every place of a row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.conformance.samples import block_rows
from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat

__all__ = ["hard_rows", "threshold_rows", "tie_rows"]


def threshold_rows(fmt: ElementFormat, dtype: torch.dtype, width: int, generator: torch.Generator) -> Tensor:
    """Draw rows whose largest magnitude lies at, just below or just above a place where a scale changes.

    The places are powers of two, the largest value of the format times powers of two, its multiples by a half code, and
    where a significand rounds up to the next power of two. The largest magnitude wanders along the row and changes its
    sign; all others are smaller by up to four binades, some of them zero.

    Args:
        fmt: the element format.
        dtype: of the rows.
        width: how many values share a scale.
        generator: of what is smaller.

    Returns:
        [rows, width].
    """
    info = torch.finfo(dtype)
    mantissa = fmt.mantissa_bits if isinstance(fmt, FloatFormat) else _precision(fmt)
    significands = sorted(
        {
            1.0,
            1.5,
            2.0 - 2.0 ** -(mantissa + 1),
            2.0 - 2.0 ** -(mantissa + 2),
            fmt.qmax / 2.0**fmt.emax,
            fmt.qmax / 2.0**fmt.emax + 2.0 ** -(mantissa + 1),
        }
    )
    top = int(torch.tensor(info.max, dtype=torch.float64).log2().floor())
    bottom = int(torch.tensor(info.tiny, dtype=torch.float64).log2())
    middle = {-3, -1, 0, 1, 2, 5, fmt.emax, fmt.emax + 1}
    far = {bottom - 2, bottom, bottom + 1, bottom + fmt.emax, bottom + fmt.emax + 1, -fmt.emax, top - fmt.emax, top - 1}
    exponents = sorted(one for one in middle | far if bottom - 2 <= one < top)
    points = torch.tensor([s * 2.0**e for e in exponents for s in significands], dtype=torch.float64).to(dtype)
    points = points[points.isfinite() & (points > 0)]
    infinity = torch.full_like(points, torch.inf)
    amax = torch.cat([points, torch.nextafter(points, infinity), torch.nextafter(points, -infinity).abs()])
    amax = amax[amax.isfinite()]
    count = amax.numel()
    share = torch.rand(count, width, generator=generator, dtype=torch.float64) * 2 - 1
    share *= 2.0 ** -torch.randint(0, 5, (count, width), generator=generator)
    share[torch.rand(count, width, generator=generator) < 0.1] = 0.0
    rows = (share * amax.unsqueeze(1).to(torch.float64)).to(dtype)
    rows = torch.where(rows.abs() > amax.unsqueeze(1), torch.zeros_like(rows), rows)
    at = torch.arange(count)
    sign = torch.where(at % 3 == 1, -1.0, 1.0).to(dtype)
    rows[at, (at * 7) % width] = amax * sign
    return rows


def _precision(fmt: ElementFormat) -> int:
    return (fmt.bits - fmt.is_signed - 1) if isinstance(fmt, IntFormat) else fmt.bits - 1


def hard_rows(
    fmt: ElementFormat, dtype: torch.dtype, width: int, generator: torch.Generator, *, has_specials: bool = True
) -> Tensor:
    """Draw `threshold_rows`, and rows of every kind that `block_rows` lists."""
    seed = int(torch.randint(0, 1 << 30, (), generator=generator))
    rows = torch.cat([threshold_rows(fmt, dtype, width, generator), block_rows(dtype, width, seed=seed)])
    return rows if has_specials else rows[rows.isfinite().all(-1)]


def tie_rows(fmt: ElementFormat, scales: Sequence[float], dtype: torch.dtype, reach: int = 3) -> tuple[Tensor, Tensor]:
    """List values that lie on and midway between codes, times scales, and the neighbours of these.

    Times a power of two they lie there exactly; times another scale, just where a division and a product with a
    reciprocal may round to different sides.

    Args:
        fmt: an integer format, or a float of few bits.
        scales: values that float32 has, or is the next to.
        dtype: of the values.
        reach: how many codes beyond the ends of an integer format are also taken.

    Returns:
        Values [scales, values], and the scales float32 [scales, 1].
    """
    if isinstance(fmt, IntFormat):
        codes = torch.arange(2 * (fmt.min_code - reach), 2 * (fmt.max_code + reach) + 1, dtype=torch.float64) / 2
    else:
        values = fmt.values if isinstance(fmt, CodebookFormat) else tuple(fmt.value(c) for c in range(fmt.num_codes))
        finite = torch.tensor(values, dtype=torch.float64)
        ladder = finite[finite.isfinite()].unique()
        codes = torch.cat([ladder, (ladder[1:] + ladder[:-1]) / 2, 2 * ladder[-1:], 2 * ladder[:1]])
    column = torch.tensor(scales, dtype=torch.float32).to(torch.float64).unsqueeze(1)
    points = (codes * column).to(dtype)
    infinity = torch.full_like(points, torch.inf)
    x = torch.cat([points, torch.nextafter(points, infinity), torch.nextafter(points, -infinity)], 1)
    return x, column.to(torch.float32)
