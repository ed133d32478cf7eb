"""`fake_quantize_mx`: blocks of narrow elements and back."""

from torch import Tensor

from incref.formats import BlockRule, Format, IntRange, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule
from incref.ops.contract import Arg, Exactness, op
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.quantize_mx import quantize_mx
from incref.ops.result import require_out

__all__ = ["fake_quantize_mx"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(
        Arg(name="x", dtype="float64, float32, bfloat16 or float16", shape="..., K, ..."),
        Arg(name="tensor_scale", dtype="float32; NVFP4 only, or None", shape="()"),
        Arg(name="random_bits", dtype="uint8, int16 or int32; STOCHASTIC only", shape="that of x"),
        Arg(name="out", dtype="that of x, or None", shape="that of x"),
    ),
    results=(Arg(name="values", dtype="that of x", shape="that of x"),),
)
def fake_quantize_mx(
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
    out: Tensor | None = None,
) -> Tensor:
    """Quantize `x` to blocks along `axis` and dequantize it to its own dtype: `dequantize_mx(*quantize_mx(x))`.

    Args:
        x: float64, float32, bfloat16 or float16, at least one dimension; NVFP4 takes no float64.
        fmt: a block format, or its name.
        axis: the dimension that blocks lie along.
        rule: as for `quantize_mx`, like the options after it.
        rounding: of an element.
        overflow: what an element becomes that is outside the range after scaling.
        nan_block: what a NaN does to its block.
        inf_block: what an Inf does to its block.
        nan: what a NaN element becomes that has no code and stands in no NaN block.
        int_range: whether MXINT8 uses the code -128.
        arithmetic: NVFP4 only: how elements are divided by their scales.
        tensor_scale: NVFP4 only: the scale of the tensor; computed if None.
        random_bits: for stochastic rounding, in the shape of `x`.
        out: where the values are written: `x` itself, or memory of its own; None for a new tensor.

    Returns:
        What `dequantize_mx` gives in the dtype of `x`. A block whose scale is NaN is NaN as a whole.

    Raises:
        NanError: as `quantize_mx`.
        TypeError: as `quantize_mx`, or if `out` has another dtype.
        ValueError: as `quantize_mx`, or if `out` has another shape or shares memory with `x` without being it.
        FlushDenormalError: if the processor flushes subnormals.

    Source: OCP MX 1.0, 5.1, 5.2 and 6.3; NVFP4: arXiv 2509.25149.

    >>> import torch
    >>> fake_quantize_mx(torch.tensor([0.6, -1.0, 3.0]), "mxfp4")
    tensor([ 0.5000, -1.0000,  3.0000])
    """
    if out is not None:
        require_out(out, x)
    codes, scale, *rest = quantize_mx(
        x,
        fmt,
        axis=axis,
        rule=rule,
        rounding=rounding,
        overflow=overflow,
        nan_block=nan_block,
        inf_block=inf_block,
        nan=nan,
        int_range=int_range,
        arithmetic=arithmetic,
        tensor_scale=tensor_scale,
        random_bits=random_bits,
    )
    made = dequantize_mx(codes, scale, fmt, axis=axis, tensor_scale=rest[0] if rest else None, dtype=x.dtype)
    return made if out is None else out.copy_(made)
