"""`quantize_affine`: the scale that is given, or that `compute_scale` finds, then one pass over memory."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import (
    FORMATS,
    Format,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_affine import get_int_format, require_found_scale
from incref_kernels.cpu.compute_scale import compute_scale
from incref_kernels.cpu.found import empty_scales, fits_tile, run_found
from incref_kernels.cpu.launch import raise_if_lost, why_not_tensors
from incref_kernels.cpu.scaled import run_scaled, why_not_blocks
from incref_kernels.cpu.tiles.found import Finding, quantize_found_tile
from incref_kernels.cpu.tiles.scaled import ScaledEncoding, quantize_scaled_tile
from incref_kernels.scales import affine_scale

__all__ = ["KERNEL", "affine_encoding", "quantize_affine"]


def quantize_affine(
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
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.quantize_affine` in kernels."""
    target = get_int_format(fmt)
    require_random_bits(x, rounding, random_bits)
    encoding = partial(affine_encoding, target, int_range=int_range, arithmetic=arithmetic, rounding=rounding, nan=nan)
    if scale is None and fits_tile(granularity, x, random_bits):
        require_found_scale(zero_point, symmetric=symmetric, symmetric_scale=symmetric_scale, int_range=int_range)
        find = Finding(fmt=target, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        scales = empty_scales(x, granularity, find)
        codes = torch.empty(x.shape, dtype=code_dtype(target))
        found = partial(quantize_found_tile, how=encoding(has_zero_point=not symmetric), find=find)
        raise_if_lost(run_found(found, granularity, [x, random_bits], codes, scales), target)
        return (codes, scales[0]) if symmetric else (codes, scales[0], scales[1])
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
    how = encoding(has_zero_point=zero_point is not None)
    codes = torch.empty(x.shape, dtype=code_dtype(target))
    body = partial(quantize_scaled_tile, how=how)
    lost = run_scaled(body, x, (scale, zero_point), codes, granularity, random_bits=random_bits)
    raise_if_lost(lost, target)
    return (codes, scale) if zero_point is None else (codes, scale, zero_point)


def affine_encoding(
    target: IntFormat,
    *,
    has_zero_point: bool,
    int_range: IntRange,
    arithmetic: ScaleArithmetic,
    rounding: Rounding,
    nan: NanRule,
) -> ScaledEncoding:
    """How quotients become integers."""
    # With a zero point the rounded quotient may pass the range of the codes before the sum is limited to it.
    wide = FORMATS["int16"] if has_zero_point else target
    to = Encoding(fmt=wide, rounding=rounding, overflow=Overflow.SATURATE, nan=nan, int_range=int_range)  # type: ignore[arg-type]  # int16 is an element format
    return ScaledEncoding(
        target=target, to=to, int_range=int_range, arithmetic=arithmetic, has_zero_point=has_zero_point
    )


def why_not(
    x: Tensor,
    _fmt: str | Format,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    random_bits: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernels can't take."""
    tensors = {"x": x, "scale": scale, "zero_point": zero_point, "random_bits": random_bits}
    return why_not_tensors(tensors) or why_not_blocks(granularity, x)


KERNEL = Kernel(fn=quantize_affine, why_not=why_not)
