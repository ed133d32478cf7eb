"""`quantize_float`: values to scaled float codes."""

import torch
from torch import Tensor

from incref.formats import (
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    Format,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.amax import block_parts
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of, widen
from incref.numerics.rounding import require_random_bits
from incref.numerics.scaled import compute_dtype, divide_by_scale, require_scale, scale_values
from incref.numerics.tabulated import encode_values, find_table
from incref.ops.compute_scale import compute_scale
from incref.ops.contract import Arg, Exactness, op
from incref.ops.encode import get_element_format

__all__ = ["get_float_format", "quantize_float"]


def get_float_format(fmt: str | Format) -> ElementFormat:
    """Look up a float or codebook format of at most 8 bits.

    Raises:
        ValueError: if `fmt` is another one.
    """
    found = get_element_format(fmt)
    if not isinstance(found, FloatFormat | CodebookFormat) or found.bits > 8:
        raise ValueError(f"scaled floats need a float format of at most 8 bits, got {found.name}")
    return found


@op(
    version="1.1",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float32 (float64 for float64 x) or uint8 (E8M0), or None", shape="ceil(d0 / b0), ..."),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
    ),
    results=(
        Arg(name="codes", dtype="uint8", shape="that of x"),
        Arg(name="scale", dtype="as given, or as compute_scale gives it", shape="ceil(d0 / b0), ..."),
    ),
)
def quantize_float(
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
) -> tuple[Tensor, Tensor]:
    """Quantize `x` to a scaled float format: `codes = encode(x / scale)`.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        fmt: a float format of at most 8 bits, or a codebook, or its name.
        scale: of every block; computed by `compute_scale` with `rule` if None.
        granularity: which elements share a scale.
        rule: how a scale is computed.
        arithmetic: whether `x / scale` is a division or a product with the reciprocal.
        quotient: which dtype that is computed in.
        rounding: of the quotient to a value of `fmt`.
        overflow: what a quotient outside the range of `fmt` becomes. One that overflows its own dtype is still
            finite.
        nan: what a NaN becomes where `fmt` has none.
        random_bits: for stochastic rounding, in the shape of `x`.

    Returns:
        `(codes, scale)`. The quotient is rounded to the dtype that `quotient` names, then encoded.
        A NaN or Inf anywhere in a block makes its computed scale NaN, and so every value of the block.

    Raises:
        NanError: for a NaN, where `fmt` has none and `nan` is ERROR.
        TypeError: for a wrong dtype.
        ValueError: for another format, or a wrong shape of `scale` or `random_bits`.
        FlushDenormalError: if the processor flushes subnormals.

    >>> quantize_float(torch.tensor([0.1, -1.0, 44.8]), "e4m3fn")
    (tensor([ 56, 210, 126], dtype=torch.uint8), tensor(0.1000))
    """
    target = get_float_format(fmt)
    require_subnormals("quantize_float")
    require_random_bits(x, rounding, random_bits)
    compute = compute_dtype(x.dtype)
    if scale is None:
        found = compute_scale(x, target, granularity, rule=rule)
        assert isinstance(found, Tensor)
        scale = found
    half = x.dtype if quotient is QuotientDtype.INPUT and x.dtype.itemsize == torch.float16.itemsize else None
    factor = scale_values(require_scale("scale", scale, x.shape, granularity), compute)
    to = Encoding(fmt=target, rounding=rounding, overflow=overflow, nan=nan)
    table = find_table(to, compute, x.numel(), x.device)
    codes = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    for part, scales, inner in block_parts(tuple(x.shape), granularity.block_shape(x.shape), compute.itemsize):
        piece = widen(x[part])
        values = divide_by_scale(piece, factor[scales], inner, arithmetic, half=half)
        if overflow is Overflow.SATURATE_FINITE:
            largest = float_format_of(compute).qmax
            is_lost = piece.isfinite() & values.isinf()
            values = torch.where(is_lost, values.clamp(-largest, largest), values)
        random = None if random_bits is None else random_bits[part]
        codes[part] = encode_values(values, to, table, random_bits=random)
    return codes, scale
