"""The loops of GPTQ around its column, as the text of an LLVM module."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref_kernels.cpu.jit.entry import ENTRY
from incref_kernels.cpu.jit.lower import Lanes, Writer, element_type, vector_type
from incref_kernels.cpu.jit.trace import trace

__all__ = ["LANES", "SIZES", "module_text"]

LANES = 16
"""Rows of the weight that are quantized side by side."""

SIZES = ("columns", "groups", "group")
"""What a kernel is told: columns of the block, groups of them that share scales, and columns of a group."""


def module_text(
    function: Callable[..., Tensor | tuple[Tensor, ...]], codes: torch.dtype, *, has_zero_point: bool
) -> str:
    """Write the module of a kernel.

    Its function `run` is `ENTRY`. Units are `LANES` rows of the weight; tensors are the weight, which is updated, the
    factor, scales, zero points if there are any, codes and errors. All but the factor are [units, columns or groups,
    LANES], so that a unit stays in the nearest cache.

    Args:
        function: takes elements of a column, the pivot, scales, and zero points; gives codes and errors.
        codes: dtype of codes.
        has_zero_point: whether there are zero points.
    """
    shapes = [(torch.float32, (LANES,)), (torch.float32, (1,)), (torch.float32, (LANES,))]
    names = ["w", "pivot", "scale"]
    if has_zero_point:
        shapes.append((torch.int32, (LANES,)))
        names.append("zero")
    writer = Writer()
    given = [
        Lanes(dtype=dtype, shape=shape, registers=(f"%{name}",))
        for name, (dtype, shape) in zip(names, shapes, strict=True)
    ]
    (code, error), lost = writer.run(trace(function, shapes), given)
    code, error = writer.convert(code, codes), writer.convert(error, torch.float32)
    floats, integers = vector_type(torch.float32, LANES), vector_type(torch.int32, LANES)
    tensors = ["w", "upper", "scale", *(["zero"] if has_zero_point else []), "codes", "error"]
    end = "\n"
    head = [
        f"  %{name}.at = getelementptr ptr, ptr %arguments, i64 {i}\n  %{name}.p = load ptr, ptr %{name}.at"
        for i, name in enumerate(tensors)
    ]
    head += [
        f"  %{name}.at = getelementptr i64, ptr %sizes, i64 {i}\n  %{name} = load i64, ptr %{name}.at"
        for i, name in enumerate(SIZES)
    ]
    zero = f"""
  %zero.here = getelementptr i32, ptr %zero.p, i64 %shared
  %zero = load {integers}, ptr %zero.here, align 4
"""
    return f"""
define internal i1 @part(ptr %arguments, ptr %sizes, i64 %begin, i64 %end) {{
entry:
{end.join(head)}
  br label %units
units:
  %u = phi i64 [ %begin, %entry ], [ %u.next, %unit.end ]
  %lost = phi i1 [ false, %entry ], [ %lost.unit, %unit.end ]
  %more = icmp slt i64 %u, %end
  br i1 %more, label %unit, label %done
unit:
  %unit.first = mul i64 %u, %columns
  %shared.unit = mul i64 %u, %groups
  br label %column
column:
  %j = phi i64 [ 0, %unit ], [ %j.next, %column.end ]
  %lost.unit = phi i1 [ %lost, %unit ], [ %lost.column, %column.end ]
  %more.columns = icmp slt i64 %j, %columns
  br i1 %more.columns, label %quantize, label %unit.end
quantize:
  %place.tile = add i64 %unit.first, %j
  %place = mul i64 %place.tile, {LANES}
  %w.here = getelementptr float, ptr %w.p, i64 %place
  %w = load {floats}, ptr %w.here, align 4
  %diagonal.row = mul i64 %j, %columns
  %diagonal.index = add i64 %diagonal.row, %j
  %pivot.here = getelementptr float, ptr %upper.p, i64 %diagonal.index
  %pivot = load float, ptr %pivot.here
  %g = udiv i64 %j, %group
  %shared.tile = add i64 %shared.unit, %g
  %shared = mul i64 %shared.tile, {LANES}
  %scale.here = getelementptr float, ptr %scale.p, i64 %shared
  %scale = load {floats}, ptr %scale.here, align 4
{zero if has_zero_point else ""}
{end.join(writer.lines)}
  %lost.column = or i1 %lost.unit, {lost}
  %codes.here = getelementptr {element_type(codes)}, ptr %codes.p, i64 %place
  store {code.type} {code.registers[0]}, ptr %codes.here, align 1
  %error.here = getelementptr float, ptr %error.p, i64 %place
  store {floats} {error.registers[0]}, ptr %error.here, align 4
  %j.next = add i64 %j, 1
  br label %later
later:
  %k = phi i64 [ %j.next, %quantize ], [ %k.next, %spread ]
  %more.later = icmp slt i64 %k, %columns
  br i1 %more.later, label %spread, label %column.end
spread:
  %upper.index = add i64 %diagonal.row, %k
  %upper.here = getelementptr float, ptr %upper.p, i64 %upper.index
  %factor = load float, ptr %upper.here
  %factor.first = insertelement {floats} poison, float %factor, i32 0
  %factors = shufflevector {floats} %factor.first, {floats} poison, {integers} zeroinitializer
  %k.tile = add i64 %unit.first, %k
  %k.place = mul i64 %k.tile, {LANES}
  %k.here = getelementptr float, ptr %w.p, i64 %k.place
  %before = load {floats}, ptr %k.here, align 4
  %product = fmul {floats} %factors, {error.registers[0]}
  %after = fsub {floats} %before, %product
  store {floats} %after, ptr %k.here, align 4
  %k.next = add i64 %k, 1
  br label %later
column.end:
  br label %column
unit.end:
  %u.next = add i64 %u, 1
  br label %units
done:
  ret i1 %lost
}}
{ENTRY}
"""
