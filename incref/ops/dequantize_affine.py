"""`dequantize_affine`: integer codes back to values."""

import torch
from torch import Tensor

from incref.numerics.amax import block_parts
from incref.numerics.blocks import from_blocks, per_element, to_blocks
from incref.numerics.checks import require_subnormals
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled import per_block_map, product_dtype, require_scale, round_to_half, scale_values
from incref.ops.contract import Arg, Exactness, op

__all__ = ["dequantize_affine"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="codes", dtype="uint8 or int8", shape="d0, d1, ..."),
        Arg(name="scale", dtype="float64, float32, bfloat16, float16 or uint8 (E8M0)", shape="ceil(d0 / b0), ..."),
        Arg(name="zero_point", dtype="int32, or None", shape="that of scale"),
    ),
    results=(Arg(name="values", dtype="dtype", shape="that of codes"),),
)
def dequantize_affine(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Turn integer codes back to values: `(codes - zero_point) * scale`.

    Args:
        codes: uint8 or int8, any shape.
        scale: of every block.
        zero_point: int32, the code of zero, of every block; None is 0.
        granularity: which elements share a scale.
        dtype: of the values.

    Returns:
        The difference is exact; the product is rounded to float32 (float64 if `dtype` or `scale` is), and that to
        `dtype`.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape of `scale` or `zero_point`.
        FlushDenormalError: if the processor flushes subnormals.

    >>> dequantize_affine(torch.tensor([10, -100, 127], dtype=torch.int8), torch.tensor(0.01))
    tensor([ 0.1000, -1.0000,  1.2700])
    """
    if codes.dtype not in (torch.uint8, torch.int8):
        raise TypeError(f"codes must be torch.uint8 or torch.int8, got {codes.dtype}")
    require_subnormals("dequantize_affine")
    compute = product_dtype(scale.dtype, dtype)
    factor = scale_values(require_scale("scale", scale, codes.shape, granularity), compute)
    offset = None
    if zero_point is not None:
        if zero_point.dtype is not torch.int32:
            raise TypeError(f"zero_point must be torch.int32, got {zero_point.dtype}")
        offset = require_scale("zero_point", zero_point, codes.shape, granularity)
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    for part, scales, inner in block_parts(tuple(codes.shape), granularity.block_shape(codes.shape), compute.itemsize):
        piece = codes[part].to(compute)
        if offset is not None:
            shifted = to_blocks(piece, inner) - per_element(offset[scales], codes.ndim)
            piece = from_blocks(shifted, piece.shape)
        values[part] = round_to_half(per_block_map(piece, factor[scales], inner, divide=False), dtype)
    return values
