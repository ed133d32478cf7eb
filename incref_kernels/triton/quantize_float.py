"""`quantize_float` in one pass over memory; scales of large blocks take one more to find them."""

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_float import get_float_format
from incref_kernels.scales import float_scale, why_not_quotient
from incref_kernels.triton.compute_scale import compute_scale, why_not_blocks
from incref_kernels.triton.found_scales import Find, quantize_found, takes_one_pass
from incref_kernels.triton.hardware import converted
from incref_kernels.triton.launch import why_not_format, why_not_tensors
from incref_kernels.triton.scaled import quantize_scaled
from incref_kernels.triton.tiles import Tile

__all__ = ["KERNEL", "quantize_float"]


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
    tile: Tile | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `incref.ops.quantize_float` in kernels; a tensor that is not contiguous is copied first."""
    target = get_float_format(fmt)
    require_random_bits(x, rounding, random_bits)
    to = Encoding(fmt=converted(target, x.device), rounding=rounding, overflow=overflow, nan=nan)
    codes = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    if scale is None and takes_one_pass(x, granularity):
        found, _ = quantize_found(
            x,
            codes,
            granularity,
            to,
            to,
            find=Find(rule=rule),
            arithmetic=arithmetic,
            random_bits=random_bits,
            tile=tile,
        )
        return codes, found
    scale = float_scale(compute_scale, x, target, scale, granularity, rule=rule)
    quantize_scaled(
        x, scale, None, codes, granularity, to, to, arithmetic=arithmetic, random_bits=random_bits, tile=tile
    )
    return codes, scale


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
