"""`decode`: codes to values."""

import torch
from torch import Tensor

from incref.formats import Format
from incref.numerics.checks import require_subnormals
from incref.numerics.chunks import chunk_slices
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_into, require_exact, value_table
from incref.ops.contract import Arg, Exactness, op
from incref.ops.encode import get_element_format

__all__ = ["decode"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(Arg(name="codes", dtype="uint8, int8, int16 or int32", shape="any"),),
    results=(Arg(name="values", dtype="dtype", shape="that of codes"),),
)
def decode(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Decode every code of `fmt`, exactly.

    Args:
        codes: in the dtype that `encode` gives for `fmt`, any shape. Bits above the width of `fmt` are ignored.
        fmt: an element format, or its name.
        dtype: of the values: float64, float32, bfloat16 or float16.

    Returns:
        Values in the shape of `codes`. A code of NaN becomes a NaN, of its sign where `fmt` has NaNs of both.

    Raises:
        TypeError: if `codes` has another dtype.
        ValueError: for an unknown format, a block format, or a `dtype` that does not hold every value of `fmt`.
        FlushDenormalError: for a float64 `dtype` of a format of more than 8 bits, if the processor flushes subnormals.

    >>> decode(torch.tensor([42, 176, 76], dtype=torch.uint8), "e4m3fn")
    tensor([ 0.3125, -0.5000,  6.0000])
    """
    source = get_element_format(fmt)
    require_exact(source, dtype)
    if source.bits > 8 and dtype is torch.float64:
        require_subnormals("decode to float64")
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    out = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    table = value_table(source, dtype, codes.device) if source.bits <= 8 else None
    for part in chunk_slices(codes.shape, (1,) * codes.ndim, max(dtype.itemsize, 4)):
        decode_into(out[part], codes[part], source, table)
    return out
