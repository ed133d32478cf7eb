"""`quantize_mx`: values to blocks of narrow elements that share a scale."""

from dataclasses import replace

import torch
from torch import Tensor

from incref.formats import (
    BlockFormat,
    BlockRule,
    Format,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    get_format,
)
from incref.numerics.checks import is_eager, require_subnormals
from incref.numerics.chunks import STRETCH_BYTES, chunk_slices
from incref.numerics.codes import code_dtype
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials, encode_mx_blocks, supports_table
from incref.numerics.nvfp4 import encode_nvfp4_blocks, nvfp4_tensor_scale
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.numerics.tabulated import find_table
from incref.ops.contract import Arg, Exactness, op

__all__ = ["get_block_format", "quantize_mx", "require_axis"]


def get_block_format(fmt: str | Format) -> BlockFormat:
    """Look up a block format.

    Raises:
        ValueError: if `fmt` is not one.
    """
    found = get_format(fmt)
    if not isinstance(found, BlockFormat):
        # A format is of the right type; it is the one named that is wrong.
        raise ValueError(  # noqa: TRY004
            f"{found.name} has no blocks; quantize_mx needs a block format such as mxfp4 or nvfp4"
        )
    return found


def require_axis(x: Tensor, axis: int) -> None:
    """Check that `x` has the dimension `axis`.

    Raises:
        ValueError: if it has not.
    """
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"blocks lie along a dimension of x, which has {x.ndim}; got axis={axis}")


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="..., K, ..."),
        Arg(name="tensor_scale", dtype="float32; NVFP4 only, or None", shape="()"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
    ),
    results=(
        Arg(name="codes", dtype="uint8, or int8 for MXINT8", shape="that of x"),
        Arg(name="scale", dtype="uint8, codes of the scale format", shape="..., ceil(K / block_size), ..."),
        Arg(name="tensor_scale", dtype="float32; NVFP4 only", shape="()"),
    ),
)
def quantize_mx(
    x: Tensor,
    fmt: str | Format,
    *,
    axis: int = -1,
    rule: ScaleRule | None = None,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.RESTRICTED,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tensor_scale: Tensor | None = None,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Quantize `x` to blocks along `axis` whose elements share a scale.

    Args:
        x: float64, float32, bfloat16 or float16, at least one dimension; NVFP4 takes no float64.
        fmt: a block format, or its name. The last block along `axis` may be shorter.
        axis: the dimension that blocks lie along.
        rule: how the largest magnitude of a block becomes its scale; None is FLOOR, and DIVIDE for NVFP4, which are
            what the formats' documents describe. MX takes the rules that give powers of two.
        rounding: of an element.
        overflow: what an element becomes that is outside the range after scaling.
        nan_block: what a NaN does to its block.
        inf_block: what an Inf does to its block.
        nan: what a NaN element becomes that has no code and stands in no NaN block.
        int_range: whether MXINT8 uses the code -128.
        arithmetic: NVFP4 only: how elements are divided by their scales. MX divides exactly.
        tensor_scale: NVFP4 only: the scale of the tensor; computed if None.
        random_bits: for stochastic rounding, in the shape of `x`.

    Returns:
        MX: `(codes, scale)`. `scale` holds codes of E8M0: the exponent of the rule, clamped to -127 .. 127, plus 127.
            An
        element is `x / 2**exponent` exactly, rounded once. A block of zeros has scale code 0; signs of zeros are kept
        where the element format has -0. A block whose scale is NaN has the code 0xFF; its elements are NaN, or +0 if
        the element format has no NaN.

        NVFP4: `(codes, scale, tensor_scale)`, in float32 arithmetic, every operation rounded to nearest:
        `tensor_scale = amax(x) / (6 * 448)` over finite elements; `scale = encode(amax(block) / 6 / tensor_scale,
        e4m3fn)`, ties to even, saturating; elements are `encode(x / (scale * tensor_scale))`, or
        `encode(x * (1 / tensor_scale / scale))` for RECIPROCAL, the factor being at most the largest float32. A scale
        that rounds to zero makes its block zero.

    Raises:
        NanError: for an element that is or becomes NaN, in a format without, if `nan` is ERROR.
        TypeError: for a wrong dtype.
        ValueError: for another format, an axis that `x` has not, a rule of the other kind, or a `tensor_scale` that the
            format has not.
        FlushDenormalError: for NVFP4, if the processor flushes subnormals.

    Source: OCP MX 1.0, 5.2 and 6.3; NVFP4: arXiv 2509.25149.

    >>> quantize_mx(torch.tensor([0.5, -1.0, 3.0]), "mxfp4")
    (tensor([ 2, 12,  7], dtype=torch.uint8), tensor([126], dtype=torch.uint8))
    """
    target = get_block_format(fmt)
    require_axis(x, axis)
    float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    specials = BlockSpecials(nan=nan_block, inf=inf_block)
    to = Encoding(fmt=target.element, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    rule = rule or (ScaleRule.DIVIDE if target.has_tensor_scale else ScaleRule.FLOOR)
    if target.has_tensor_scale:
        tensor_scale = _tensor_scale(x, target, rule, tensor_scale)
    elif tensor_scale is not None:
        raise ValueError(f"{target.name} has no tensor_scale")
    elif not rule.is_power_of_two:
        raise ValueError(f"{target.name} has scales that are powers of two; use FLOOR, CEIL, EVEN or RCEIL, got {rule}")

    moved = x.movedim(axis, -1)
    random = None if random_bits is None else random_bits.movedim(axis, -1)
    block = (1,) * (x.ndim - 1) + (target.block_size,)
    blocks = -(-moved.shape[-1] // target.block_size)
    codes = torch.empty(x.shape, dtype=code_dtype(target.element), device=x.device)
    scale = torch.empty((*moved.shape[:-1], blocks), dtype=torch.uint8, device=x.device).movedim(-1, axis)
    scale = scale.contiguous()
    codes_out, scale_out = codes.movedim(axis, -1), scale.movedim(axis, -1)
    table = None
    if x.dtype is not torch.float64 and (target.has_tensor_scale or supports_table(to, specials)):
        # The narrower dtypes are widened to binary32; where blocks deal with NaN and Inf, the table need not.
        table_to = replace(to, nan=NanRule.ZERO) if supports_table(to, specials) else to
        table = find_table(table_to, torch.float32, x.numel(), x.device)
    for part in chunk_slices(moved.shape, block, max(x.itemsize, 4), limit=STRETCH_BYTES):
        rows = (*part[:-1], slice(part[-1].start // target.block_size, -(-part[-1].stop // target.block_size)))
        piece, wanted = moved[part], codes_out[part]
        values = _as_blocks(piece, target.block_size)
        bits = None if random is None else _as_blocks(random[part], target.block_size)
        is_ragged = not is_eager() or piece.shape[-1] % target.block_size != 0
        # Whole blocks are encoded where they belong.
        out = codes.new_empty(values.shape) if is_ragged else _as_blocks(wanted, target.block_size)
        if tensor_scale is None:
            scale_out[rows] = encode_mx_blocks(
                out, values, target, to, rule=rule, specials=specials, table=table, random_bits=bits
            )
        else:
            scale_out[rows] = encode_nvfp4_blocks(
                out,
                values,
                tensor_scale,
                target,
                to,
                arithmetic=arithmetic,
                specials=specials,
                table=table,
                random_bits=bits,
            )
        if is_ragged:
            wanted.copy_(out.flatten(-2)[..., : piece.shape[-1]])
    return (codes, scale) if tensor_scale is None else (codes, scale, tensor_scale)


def _tensor_scale(x: Tensor, fmt: BlockFormat, rule: ScaleRule, given: Tensor | None) -> Tensor:
    """Check what NVFP4 needs, and compute the scale of the tensor if it is not given."""
    if rule is not ScaleRule.DIVIDE:
        raise ValueError(f"{fmt.name} takes the rule DIVIDE only, got {rule}")
    if x.dtype is torch.float64:
        raise TypeError(f"{fmt.name} is computed in float32 and takes no float64; round x first")
    require_subnormals("NVFP4 quantization")
    if given is None:
        return nvfp4_tensor_scale(x, fmt)
    if given.dtype is not torch.float32 or given.shape != ():
        raise ValueError(f"tensor_scale must be torch.float32 of shape (), got {given.dtype} of {tuple(given.shape)}")
    return given


def _as_blocks(x: Tensor, block_size: int) -> Tensor:
    """View [..., K] as [..., ceil(K / block_size), block_size], filled up with zeros."""
    if fill := -x.shape[-1] % block_size:
        x = torch.nn.functional.pad(x, (0, fill))
    blocks: Tensor = x.unflatten(-1, (x.shape[-1] // block_size, block_size))
    return blocks
