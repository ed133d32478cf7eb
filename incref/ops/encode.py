"""`encode`: values to codes."""

import torch
from torch import Tensor

from incref.formats import BlockFormat, ElementFormat, Format, IntRange, NanRule, Overflow, Rounding, get_format
from incref.numerics.chunks import chunk_slices
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.numerics.tabulated import encode_into, find_table
from incref.ops.contract import Arg, Exactness, op

__all__ = ["encode", "get_element_format"]


def get_element_format(fmt: str | Format) -> ElementFormat:
    """Look up a format whose codes stand alone.

    Raises:
        ValueError: if `fmt` is a block format, or no format.
    """
    found = get_format(fmt)
    if isinstance(found, BlockFormat):
        # A format is of the right type; it is the one named that is wrong.
        raise ValueError(  # noqa: TRY004
            f"{found.name} shares scales between elements; use quantize_mx, or its element format {found.element.name}"
        )
    return found


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="any"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
    ),
    results=(Arg(name="codes", dtype="uint8, int8, int16 or int32", shape="that of x"),),
)
def encode(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
) -> Tensor:
    """Encode every element of `x` in `fmt`, by one rounding from the value that it has in its own dtype.

    Args:
        x: float64, float32, bfloat16 or float16, any shape and strides, on any device.
        fmt: an element format, or its name.
        rounding: which neighbour a value between two representable ones becomes.
        overflow: what a value becomes whose rounded result is outside the range of `fmt`.
        nan: what a NaN becomes where `fmt` has no code for it.
        int_range: which codes of a signed integer format are used.
        random_bits: uint8, int16 or int32 in the shape of `x`, for `Rounding.STOCHASTIC` only.

    Returns:
        Codes in the shape of `x`: uint8, one code an element, for formats of up to 8 bits (int8 for signed integers),
        int16 for up to 16 and int32 for up to 32. A zero keeps its sign where `fmt` has -0. A NaN becomes
        `fmt.nan_code`, with its sign where `fmt` has a NaN of either sign; its payload is dropped.

    Raises:
        NanError: for a NaN, where `fmt` has none and `nan` is ERROR.
        TypeError: if `x` or `random_bits` has another dtype.
        ValueError: for an unknown format, a block format, float64, or random bits that are missing, not asked for, or
            of another shape.
        UnsupportedError: for stochastic rounding into a codebook.

    Source: OCP OFP8 1.0 (conversion, saturating and not); IEEE 754-2019, 4.3; `Rounding` and `Overflow` have the
        formulas.

    >>> encode(torch.tensor([0.3, -448.0, 1e9]), "e4m3fn")
    tensor([ 42, 254, 126], dtype=torch.uint8)
    """
    target = get_element_format(fmt)
    out = torch.empty(x.shape, dtype=code_dtype(target), device=x.device)
    float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    to = Encoding(fmt=target, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    flat, source, bits = out, x, random_bits
    if x.is_contiguous() and (bits is None or bits.is_contiguous()):
        flat, source, bits = out.view(-1), x.view(-1), bits if bits is None else bits.view(-1)
    table = find_table(to, x.dtype, x.numel(), x.device)
    for part in chunk_slices(source.shape, (1,) * source.ndim, max(x.itemsize, 4)):
        random = None if bits is None else bits[part]
        encode_into(flat[part], source[part], to, table, random_bits=random)
    return out
