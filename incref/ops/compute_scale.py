"""`compute_scale`: the scale, and zero point, of every block of a tensor."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.formats import E8M0, ElementFormat, Format, IntFormat, ScaleRule, SymmetricScale
from incref.numerics.amax import magnitudes, negative_magnitudes, positive_magnitudes, reduce_amax
from incref.numerics.checks import require_subnormals
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import Patterns, float_format_of
from incref.numerics.scaled import compute_dtype
from incref.numerics.scales import affine_scale, float_scale, grid_limit, scale_codes, scale_exponent
from incref.ops.contract import Arg, Exactness, op
from incref.ops.encode import get_element_format

__all__ = ["compute_scale", "scale_of_amax"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="d0, d1, ..."),),
    results=(
        Arg(
            name="scale",
            dtype="float32, float64 for float64 x, or uint8 (E8M0)",
            shape="ceil(d0 / b0), ceil(d1 / b1), ...",
        ),
        Arg(name="zero_point", dtype="int32; asymmetric only", shape="that of scale"),
    ),
)
def compute_scale(
    x: Tensor,
    fmt: str | Format,
    granularity: Granularity = PER_TENSOR,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute the scale that fits the range of every block of `x` to the range of `fmt`.

    Args:
        x: float64, float32, bfloat16 or float16, any shape; the largest magnitude of a block is exact.
        fmt: an element format, or its name.
        granularity: which elements share a scale.
        rule: how the largest magnitude becomes a scale.
        symmetric: whether zero is code 0; if not, the scale spans from the least to the greatest element and there is a
            zero point. Integer formats only.
        symmetric_scale: which magnitude a symmetric integer grid puts where.

    Returns:
        Symmetric: `amax / limit` or `amax * (1 / limit)` for DIVIDE and RECIPROCAL, where limit is `fmt.qmax` or, for
        integers, what `symmetric_scale` says: float32 (float64 for float64 `x`); 1 where amax is 0, at least the
        smallest normal value elsewhere, NaN where the block has a NaN or Inf. The other rules give codes of E8M0,
        uint8, exponents clamped to -127 .. 127: 0 (2**-127) where amax is 0, 0xFF (NaN) where the block has a NaN or
        Inf.

        Asymmetric: `(scale, zero_point)`. With `lo = min(min(x), 0)` and `hi = max(max(x), 0)`,
        `scale = (hi - lo) / (2**bits - 1)`, or times the reciprocal, and
        `zero_point = clamp(round(-lo / scale) + min_code, min_code, max_code)`, int32, ties to even. `hi - lo` is
        rounded first and limited to the largest finite value; then the division, or the reciprocal and the product. A
        block of zeros has scale 1; one with a NaN or Inf has scale NaN and zero_point min_code.

    Raises:
        ValueError: for an unknown or block format; a symmetric scale of an unsigned format; an asymmetric one of a
            format that is not an integer, or by a rule that gives powers of two.
        FlushDenormalError: for an asymmetric scale, or one by the reciprocal of a limit so great that this is
            subnormal, if the processor flushes subnormals.

    Source: OCP MX 1.0, 6.3 (FLOOR); arXiv 2210.17323 (SPAN); `ScaleRule` and `SymmetricScale` have the formulas.

    >>> compute_scale(torch.tensor([[1.0, -6.35], [0.5, 0.0]]), "int8", Granularity((-1,)))
    tensor([[0.0500],
            [0.0039]])
    """
    return scale_of_amax(
        lambda select: _amax_of_blocks(x, granularity, select),
        get_element_format(fmt),
        compute_dtype(x.dtype),
        rule=rule,
        symmetric=symmetric,
        symmetric_scale=symmetric_scale,
    )


def scale_of_amax(
    amax_of: Callable[[Callable[[Patterns], Tensor]], Tensor],
    fmt: ElementFormat,
    dtype: torch.dtype,
    *,
    rule: ScaleRule,
    symmetric: bool,
    symmetric_scale: SymmetricScale,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what `compute_scale` does after the look through the blocks.

    Args:
        amax_of: the largest magnitude pattern of every block, among those that it is told to select.
        fmt: the format of the elements.
        dtype: that of the arithmetic, whose patterns `amax_of` gives.
        rule: see `compute_scale`, as for the rest.
        symmetric: whether there is no zero point.
        symmetric_scale: which magnitude goes where.
    """
    layout = float_format_of(dtype)
    if not symmetric:
        if not isinstance(fmt, IntFormat) or rule.is_power_of_two:
            raise ValueError(
                "an asymmetric scale needs an integer format and the rule DIVIDE or RECIPROCAL, "
                f"got {fmt.name} and {rule}"
            )
        require_subnormals("an asymmetric compute_scale")
        return affine_scale(
            amax_of(negative_magnitudes).view(dtype), amax_of(positive_magnitudes).view(dtype), fmt, rule
        )
    limit = grid_limit(fmt, symmetric_scale)
    if rule.is_power_of_two:
        amax = amax_of(magnitudes)
        exponent = scale_exponent(amax, layout, fmt, rule).clamp(E8M0.emin, E8M0.emax)
        assert layout.inf_code is not None
        return scale_codes(exponent, amax >= layout.inf_code, E8M0)
    if rule is ScaleRule.RECIPROCAL and limit * layout.smallest_normal > 1:
        require_subnormals(f"compute_scale by the reciprocal of {limit}")
    if symmetric_scale is SymmetricScale.EXTREME and isinstance(fmt, IntFormat):
        below, above = amax_of(negative_magnitudes), amax_of(positive_magnitudes)
        scale = float_scale(torch.maximum(below, above).view(dtype), limit, rule)
        return torch.where((above > below) & scale.isfinite(), -scale, scale)
    return float_scale(amax_of(magnitudes).view(dtype), limit, rule)


def _amax_of_blocks(x: Tensor, granularity: Granularity, select: Callable[[Patterns], Tensor]) -> Tensor:
    """Reduce to one pattern for each scale, in the shape of the scales; a tensor without elements has amax 0."""
    amax = reduce_amax(x, granularity.block_shape(x.shape), select)
    shape = granularity.scale_shape(x.shape)
    return amax.new_zeros(shape) if amax.numel() == 0 else amax.view(shape)
