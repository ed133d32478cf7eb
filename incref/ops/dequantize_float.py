"""`dequantize_float`: scaled float codes back to values."""

import torch
from torch import Tensor

from incref.formats import Format
from incref.numerics.amax import block_parts
from incref.numerics.checks import require_subnormals
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_codes, value_table
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import per_block_map, product_dtype, require_scale, round_to_half, scale_values
from incref.ops.contract import Arg, Exactness, op
from incref.ops.quantize_float import get_float_format

__all__ = ["dequantize_float"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="codes", dtype="uint8", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float64, float32, bfloat16, float16 or uint8 (E8M0)", shape="ceil(d0 / b0), ..."),
    ),
    results=(Arg(name="values", dtype="dtype", shape="that of codes"),),
)
def dequantize_float(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Turn scaled float codes back to values: `decode(codes) * scale`.

    Args:
        codes: uint8, any shape.
        scale: of every block.
        fmt: a float format of at most 8 bits, or a codebook, or its name.
        granularity: which elements share a scale.
        dtype: of the values.

    Returns:
        The decoded value is exact; the product is rounded to float32 (float64 if `dtype` or `scale` is), and that to
        `dtype`.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, or a wrong shape of `scale`.
        FlushDenormalError: if the processor flushes subnormals.

    >>> dequantize_float(torch.tensor([56, 210, 126], dtype=torch.uint8), torch.tensor(0.5), "e4m3fn")
    tensor([  0.5000,  -5.0000, 224.0000])
    """
    source = get_float_format(fmt)
    if codes.dtype is not code_dtype(source):
        raise TypeError(f"codes of {source.name} must be {code_dtype(source)}, got {codes.dtype}")
    require_subnormals("dequantize_float")
    compute = product_dtype(scale.dtype, dtype)
    factor = scale_values(require_scale("scale", scale, codes.shape, granularity), compute)
    table = value_table(source, compute, codes.device)
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    for part, scales, inner in block_parts(tuple(codes.shape), granularity.block_shape(codes.shape), compute.itemsize):
        piece = decode_codes(codes[part], source, compute, table)
        values[part] = round_to_half(per_block_map(piece, factor[scales], inner, divide=False), dtype)
    return values
