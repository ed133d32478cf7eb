"""`quantize_affine` in one pass over memory; scales of large blocks take one more to find them."""

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
from incref_kernels.scales import affine_scale
from incref_kernels.triton.compute_scale import compute_scale, why_not_blocks
from incref_kernels.triton.found_scales import Find, quantize_found, takes_one_pass
from incref_kernels.triton.launch import why_not_tensors
from incref_kernels.triton.scaled import quantize_scaled
from incref_kernels.triton.tiles import Tile

__all__ = ["KERNEL", "quantize_affine"]


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
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run `incref.ops.quantize_affine` in kernels; a tensor that is not contiguous is copied first."""
    target = get_int_format(fmt)
    require_random_bits(x, rounding, random_bits)
    # With a zero point the rounded quotient may pass the range of the codes before the sum is limited to it.
    wide = target if symmetric and zero_point is None else FORMATS["int16"]
    assert isinstance(wide, IntFormat)
    to, limits = (
        Encoding(fmt=each, rounding=rounding, overflow=Overflow.SATURATE, nan=nan, int_range=int_range)
        for each in (wide, target)
    )
    codes = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    if scale is None and takes_one_pass(x, granularity) and (symmetric or not rule.is_power_of_two):
        require_found_scale(zero_point, symmetric=symmetric, symmetric_scale=symmetric_scale, int_range=int_range)
        find = Find(rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        found_scale, found_zero = quantize_found(
            x, codes, granularity, to, limits, find=find, arithmetic=arithmetic, random_bits=random_bits, tile=tile
        )
        return (codes, found_scale) if found_zero is None else (codes, found_scale, found_zero)
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
    if zero_point is None:
        to = limits
    quantize_scaled(
        x, scale, zero_point, codes, granularity, to, limits, arithmetic=arithmetic, random_bits=random_bits, tile=tile
    )
    return (codes, scale) if zero_point is None else (codes, scale, zero_point)


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
