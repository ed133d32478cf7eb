"""`fake_quantize_mx` in one pass over memory; NVFP4 without a given tensor scale takes one more to find it."""

from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import BlockRule, Format, IntRange, NanRule, Overflow, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.encode import Encoding
from incref.numerics.mx import BlockSpecials
from incref.numerics.patterns import float_format_of
from incref.numerics.rounding import require_random_bits
from incref.ops.quantize_mx import get_block_format, require_axis
from incref.ops.result import require_out
from incref_kernels.block_options import require_tensor_scale, scale_rule
from incref_kernels.cpu.blocks import run_blocks
from incref_kernels.cpu.compute_scale import tensor_scale as find_tensor_scale
from incref_kernels.cpu.jit.ports import Kind
from incref_kernels.cpu.launch import raise_if_lost, why_not_tensors
from incref_kernels.cpu.quantize_mx import block_tile
from incref_kernels.cpu.tiles.blocks import fake_quantize_mx_tile, fake_quantize_nvfp4_tile

__all__ = ["KERNEL", "fake_quantize_mx"]


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
    """Run `incref.ops.fake_quantize_mx` in a kernel; a tensor that is not contiguous is copied piece by piece."""
    target = get_block_format(fmt)
    require_axis(x, axis)
    float_format_of(x.dtype)
    require_random_bits(x, rounding, random_bits)
    axis = axis % x.ndim
    values = require_out(out, x)
    whole = require_tensor_scale(x, target, tensor_scale, find_tensor_scale)
    to = Encoding(fmt=target.element, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    body = block_tile(
        fake_quantize_mx_tile,
        fake_quantize_nvfp4_tile,
        target,
        to,
        rule=scale_rule(target, rule),
        arithmetic=arithmetic,
        specials=BlockSpecials(nan=nan_block, inf=inf_block),
    )

    inputs = [(Kind.ELEMENT, x)]
    if whole is not None:
        inputs.append((Kind.WHOLE, whole))
    if random_bits is not None:
        inputs.append((Kind.ELEMENT, random_bits))
    lost = run_blocks(body, target.block_size, axis, inputs, [(Kind.ELEMENT, values)])
    raise_if_lost(lost, target.element)
    return values


def why_not(
    x: Tensor,
    fmt: str | Format,
    *,
    random_bits: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    **_options: object,
) -> str | None:
    """Say which arguments the kernel can't take."""
    del fmt
    return why_not_tensors({"x": x, "random_bits": random_bits, "tensor_scale": tensor_scale})


KERNEL = Kernel(fn=fake_quantize_mx, why_not=why_not)
