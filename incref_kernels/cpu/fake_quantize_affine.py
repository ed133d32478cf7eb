"""`fake_quantize_affine`: the scale that is given, or that `compute_scale` finds, then one pass over memory."""

from functools import partial

from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Rounding, ScaleArithmetic, ScaleRule, SymmetricScale
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_affine import get_int_format, require_found_scale
from incref.ops.result import require_out
from incref_kernels.cpu.compute_scale import compute_scale
from incref_kernels.cpu.found import fits_tile, run_found
from incref_kernels.cpu.launch import raise_if_lost
from incref_kernels.cpu.quantize_affine import KERNEL as QUANTIZE
from incref_kernels.cpu.quantize_affine import affine_encoding
from incref_kernels.cpu.scaled import run_scaled
from incref_kernels.cpu.tiles.found import Finding, fake_quantize_found_tile
from incref_kernels.cpu.tiles.scaled import fake_quantize_scaled_tile
from incref_kernels.scales import affine_scale

__all__ = ["KERNEL", "fake_quantize_affine"]


def fake_quantize_affine(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.fake_quantize_affine` in kernels."""
    target = get_int_format(fmt)
    require_random_bits(x, rounding, random_bits)
    values = require_out(out, x)
    encoding = partial(affine_encoding, target, int_range=int_range, arithmetic=arithmetic, rounding=rounding, nan=nan)
    if scale is None and fits_tile(granularity, x, random_bits, values):
        require_found_scale(zero_point, symmetric=symmetric, symmetric_scale=symmetric_scale, int_range=int_range)
        find = Finding(fmt=target, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        found = partial(fake_quantize_found_tile, how=encoding(has_zero_point=not symmetric), find=find)
        raise_if_lost(run_found(found, granularity, [x, random_bits], values), target)
        return values
    scale, zero_point = affine_scale(
        compute_scale,
        x,
        target,
        scale,
        zero_point,
        granularity=granularity,
        rule=rule,
        symmetric=symmetric,
        symmetric_scale=symmetric_scale,
        int_range=int_range,
    )
    body = partial(fake_quantize_scaled_tile, how=encoding(has_zero_point=zero_point is not None))
    raise_if_lost(run_scaled(body, x, (scale, zero_point), values, granularity, random_bits=random_bits), target)
    return values


KERNEL = Kernel(fn=fake_quantize_affine, why_not=QUANTIZE.why_not)
