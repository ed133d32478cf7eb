"""`dequantize_mx`: blocks of narrow elements back to values."""

import torch
from torch import Tensor

from incref.formats import Format
from incref.numerics.checks import require_subnormals
from incref.numerics.chunks import chunk_slices
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_codes, decode_into, value_table
from incref.numerics.scaled import compute_dtype, per_block_map
from incref.ops.contract import Arg, Exactness, op
from incref.ops.quantize_mx import get_block_format, require_axis

__all__ = ["dequantize_mx"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="codes", dtype="uint8, or int8 for MXINT8", shape="..., K, ..."),
        Arg(name="scale", dtype="uint8, codes of the scale format", shape="..., ceil(K / block_size), ..."),
        Arg(name="tensor_scale", dtype="float32; NVFP4 only", shape="()"),
    ),
    results=(Arg(name="values", dtype="dtype", shape="that of codes"),),
)
def dequantize_mx(
    codes: Tensor,
    scale: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Turn blocks back to values: `decode(codes) * scale * tensor_scale`.

    Args:
        codes: element codes, at least one dimension.
        scale: scale codes, one for each block along `axis`.
        fmt: a block format, or its name.
        axis: the dimension that blocks lie along.
        tensor_scale: NVFP4 only: the scale of the tensor.
        dtype: of the values.

    Returns:
        The first product is exact (a value beyond float32 becomes Inf; float64 has room for all). NVFP4's second
        product is rounded to float32 (float64 if `dtype` is). The result is then rounded to `dtype`.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for another format, an axis that `codes` has not, a wrong shape of `scale`, or a `tensor_scale` that
            is missing or not asked for.
        FlushDenormalError: if the processor flushes subnormals.

    Source: OCP MX 1.0, 5.1.

    >>> dequantize_mx(torch.tensor([2, 12, 7], dtype=torch.uint8), torch.tensor([126], dtype=torch.uint8), "mxfp4")
    tensor([ 0.5000, -1.0000,  3.0000])
    """
    source = get_block_format(fmt)
    require_axis(codes, axis)
    if codes.dtype is not code_dtype(source.element):
        raise TypeError(f"element codes of {source.name} must be {code_dtype(source.element)}, got {codes.dtype}")
    if scale.dtype is not torch.uint8:
        raise TypeError(f"scale codes of {source.name} must be torch.uint8, got {scale.dtype}")
    if source.has_tensor_scale != (tensor_scale is not None):
        raise ValueError(f"{source.name} {'needs a' if source.has_tensor_scale else 'has no'} tensor_scale")
    require_subnormals("dequantize_mx")
    compute = compute_dtype(dtype)
    moved = codes.movedim(axis, -1)
    wanted = (*moved.shape[:-1], -(-moved.shape[-1] // source.block_size))
    factors = scale.movedim(axis, -1) if scale.ndim == codes.ndim else scale
    if tuple(factors.shape) != wanted:
        raise ValueError(
            f"the scale of codes of shape {tuple(codes.shape)} in blocks of {source.block_size} along axis {axis} must "
            f"have {wanted[-1]} entries along it and the same extents elsewhere, got shape {tuple(scale.shape)}"
        )
    element_table = value_table(source.element, compute, codes.device)
    scale_table = value_table(source.scale, compute, codes.device)
    values = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    out = values.movedim(axis, -1)
    block = (1,) * (codes.ndim - 1) + (source.block_size,)
    for part in chunk_slices(moved.shape, block, compute.itemsize):
        rows = (*part[:-1], slice(part[-1].start // source.block_size, -(-part[-1].stop // source.block_size)))
        factor = decode_codes(factors[rows], source.scale, compute, scale_table)
        piece = out[part]
        # Whole blocks are multiplied where they stand.
        in_place = dtype is compute and piece.shape[-1] % source.block_size == 0
        values_of = piece if in_place else torch.empty(piece.shape, dtype=compute, device=codes.device)
        decode_into(values_of, moved[part], source.element, element_table)
        if in_place:
            values_of.unflatten(-1, (factor.shape[-1], source.block_size)).mul_(factor.unsqueeze(-1))
        else:
            values_of = per_block_map(values_of, factor, block, divide=False)
        if tensor_scale is not None:
            values_of.mul_(tensor_scale.to(compute))
        if not in_place:
            piece.copy_(values_of)
    return values
