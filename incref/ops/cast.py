"""`cast`: values to the nearest ones that a format has."""

from torch import Tensor

from incref.formats import Format, IntRange, NanRule, Overflow, Rounding
from incref.numerics.chunks import STRETCH_BYTES, chunk_slices
from incref.numerics.scaled import compute_dtype, round_to_half
from incref.ops.contract import Arg, Exactness, op
from incref.ops.decode import decode
from incref.ops.encode import encode
from incref.ops.result import require_out

__all__ = ["cast"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="any"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
        Arg(name="out", dtype="that of x, or None", shape="that of x"),
    ),
    results=(Arg(name="values", dtype="that of x", shape="that of x"),),
)
def cast(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Round every element of `x` to a value of `fmt`: `decode(encode(x))` in the dtype of `x`.

    Args:
        x: float64, float32, bfloat16 or float16, any shape and strides.
        fmt: an element format, or its name.
        rounding: as for `encode`, like the options after it.
        overflow: what a value beyond the range becomes.
        nan: what a NaN becomes where `fmt` has none.
        int_range: which codes of a signed integer format are used.
        random_bits: for stochastic rounding, in the shape of `x`.
        out: where the values are written: `x` itself, or memory of its own; None for a new tensor.

    Returns:
        The values of the codes, exact in float32 (float64 for float64 `x`), then rounded to the dtype of `x`.

    Raises:
        NanError: for a NaN, where `fmt` has none and `nan` is ERROR; `out` may be written in part.
        TypeError: as `encode`, or if `out` has another dtype.
        ValueError: as `encode`, or if `out` has another shape or shares memory with `x` without being it.

    >>> import torch
    >>> cast(torch.tensor([0.3, -1.7, 5.0]), "e4m3fn")
    tensor([ 0.3125, -1.7500,  5.0000])
    """
    values = require_out(out, x)
    compute = compute_dtype(x.dtype)
    if random_bits is not None and random_bits.shape != x.shape:
        raise ValueError(f"random_bits must have the shape of x, {tuple(x.shape)}, got {tuple(random_bits.shape)}")
    if x.numel() == 0:
        # For its errors.
        encode(x, fmt, rounding=rounding, random_bits=random_bits)
    for part in chunk_slices(x.shape, (1,) * x.ndim, compute.itemsize, limit=STRETCH_BYTES):
        codes = encode(
            x[part],
            fmt,
            rounding=rounding,
            overflow=overflow,
            nan=nan,
            int_range=int_range,
            random_bits=None if random_bits is None else random_bits[part],
        )
        values[part] = round_to_half(decode(codes, fmt, dtype=compute), x.dtype)
    return values
