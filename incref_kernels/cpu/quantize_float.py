"""`quantize_float`: the scale that is given, or that `compute_scale` finds, then one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import (
    ElementFormat,
    Format,
    IntRange,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_float import get_float_format
from incref_kernels.cpu.compute_scale import compute_scale
from incref_kernels.cpu.found import empty_scales, fits_tile, run_found
from incref_kernels.cpu.launch import raise_if_lost, why_not_format, why_not_tensors
from incref_kernels.cpu.scaled import run_scaled, why_not_blocks
from incref_kernels.cpu.tiles.found import Finding, quantize_found_tile
from incref_kernels.cpu.tiles.scaled import ScaledEncoding, quantize_scaled_tile
from incref_kernels.scales import float_scale, why_not_quotient

__all__ = ["KERNEL", "float_encoding", "quantize_float"]


def quantize_float(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,  # noqa: ARG001  # why_not takes one value only
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `incref.ops.quantize_float` in kernels."""
    target = get_float_format(fmt)
    require_random_bits(x, rounding, random_bits)
    how = float_encoding(target, arithmetic=arithmetic, rounding=rounding, overflow=overflow, nan=nan)
    codes = torch.empty(x.shape, dtype=code_dtype(target))
    if scale is None and fits_tile(granularity, x, random_bits):
        find = Finding(fmt=target, rule=rule)
        (scale,) = empty_scales(x, granularity, find)
        found = partial(quantize_found_tile, how=how, find=find)
        raise_if_lost(run_found(found, granularity, [x, random_bits], codes, [scale]), target)
        return codes, scale
    scale = float_scale(compute_scale, x, target, scale, granularity, rule=rule)
    lost = run_scaled(partial(quantize_scaled_tile, how=how), x, (scale,), codes, granularity, random_bits=random_bits)
    raise_if_lost(lost, target)
    return codes, scale


def float_encoding(
    target: ElementFormat, *, arithmetic: ScaleArithmetic, rounding: Rounding, overflow: Overflow, nan: NanRule
) -> ScaledEncoding:
    """How quotients become floats."""
    to = Encoding(fmt=target, rounding=rounding, overflow=overflow, nan=nan)
    return ScaledEncoding(target=target, to=to, int_range=IntRange.FULL, arithmetic=arithmetic, keeps_finite=True)


def why_not(
    x: Tensor,
    fmt: str | Format,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    random_bits: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernels can't take."""
    return (
        why_not_quotient(quotient)
        or why_not_tensors({"x": x, "scale": scale, "random_bits": random_bits})
        or why_not_format(get_float_format(fmt))
        or why_not_blocks(granularity, x)
    )


KERNEL = Kernel(fn=quantize_float, why_not=why_not)
