"""`fake_quantize_float`: the scale that is given, or that `compute_scale` finds, then one pass over memory."""

from functools import partial

from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_float import get_float_format
from incref.ops.result import require_out
from incref_kernels.cpu.compute_scale import compute_scale
from incref_kernels.cpu.found import fits_tile, run_found
from incref_kernels.cpu.launch import raise_if_lost
from incref_kernels.cpu.quantize_float import KERNEL as QUANTIZE
from incref_kernels.cpu.quantize_float import float_encoding
from incref_kernels.cpu.scaled import run_scaled
from incref_kernels.cpu.tiles.found import Finding, fake_quantize_found_tile
from incref_kernels.cpu.tiles.scaled import fake_quantize_scaled_tile
from incref_kernels.scales import float_scale

__all__ = ["KERNEL", "fake_quantize_float"]


def fake_quantize_float(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.fake_quantize_float` in kernels."""
    # That of narrower values is declined by `why_not`; the rest computes in one dtype.
    del quotient
    target = get_float_format(fmt)
    require_random_bits(x, rounding, random_bits)
    values = require_out(out, x)
    how = float_encoding(target, arithmetic=arithmetic, rounding=rounding, overflow=overflow, nan=nan)
    if scale is None and fits_tile(granularity, x, random_bits, values):
        found = partial(fake_quantize_found_tile, how=how, find=Finding(fmt=target, rule=rule))
        raise_if_lost(run_found(found, granularity, [x, random_bits], values), target)
        return values
    scale = float_scale(compute_scale, x, target, scale, granularity, rule=rule)
    body = partial(fake_quantize_scaled_tile, how=how)
    raise_if_lost(run_scaled(body, x, (scale,), values, granularity, random_bits=random_bits), target)
    return values


KERNEL = Kernel(fn=fake_quantize_float, why_not=QUANTIZE.why_not)
