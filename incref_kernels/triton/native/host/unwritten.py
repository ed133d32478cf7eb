"""Which bytes of the tensors hold something: a load of one that nothing was stored to is a mistake (debug mode)."""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.host.tensors import PLACE, tensor_access
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["watch_unwritten"]

_LOADED = f"""
define internal void @read_marks(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
  %first = ptrtoint ptr %address to i64
  %place = call i64 @place_of(ptr %ctx, i64 %first, i64 %size)
  %outside = icmp slt i64 %place, 0
  %marks.at = getelementptr i8, ptr %ctx, i64 {offset("marks")}
  %marks = load ptr, ptr %marks.at
  %mark = getelementptr i8, ptr %marks, i64 %place
  br i1 %outside, label %done, label %bytes
bytes:
  %b = phi i64 [0, %entry], [%b.next, %fine]
  %at = getelementptr i8, ptr %mark, i64 %b
  %written = load i8, ptr %at
  %empty = icmp eq i8 %written, 0
  br i1 %empty, label %unwritten, label %fine
fine:
  %b.next = add i64 %b, 1
  %more = icmp ult i64 %b.next, %size
  br i1 %more, label %bytes, label %done
unwritten:
  %bad = add i64 %first, %b
  call void @failed_at(ptr %ctx, i32 {Failure.READ_UNWRITTEN:d}, i32 %lane, i32 %site, i64 %bad, i32 0)
  br label %done
done:
  ret void
}}
"""

_STORED = f"""
define internal void @set_marks(ptr %ctx, ptr %address, i64 %size) noinline {{
entry:
  %first = ptrtoint ptr %address to i64
  %place = call i64 @place_of(ptr %ctx, i64 %first, i64 %size)
  %outside = icmp slt i64 %place, 0
  %marks.at = getelementptr i8, ptr %ctx, i64 {offset("marks")}
  %marks = load ptr, ptr %marks.at
  %mark = getelementptr i8, ptr %marks, i64 %place
  br i1 %outside, label %done, label %bytes
bytes:
  %b = phi i64 [0, %entry], [%b.next, %bytes]
  %at = getelementptr i8, ptr %mark, i64 %b
  store i8 1, ptr %at
  %b.next = add i64 %b, 1
  %more = icmp ult i64 %b.next, %size
  br i1 %more, label %bytes, label %done
done:
  ret void
}}
"""


def watch_unwritten(builder: LaneBuilder, inst: Instruction) -> None:
    """Write what has to be noted of an access of global memory, before it is made."""
    access = tensor_access(inst)
    if access is None:
        return
    builder.helper("@failed", FAILED)
    builder.helper("@place_of", PLACE)
    if inst.opcode != "store":
        builder.helper("@read_marks", _LOADED)
        site = builder.site(f"{inst.opcode} of {access.size} bytes")
        builder.emit(f"call void @read_marks(ptr %ctx, {access.address}, i64 {access.size}, i32 %tid, i32 {site})")
    if inst.opcode != "load":
        builder.helper("@set_marks", _STORED)
        builder.emit(f"call void @set_marks(ptr %ctx, {access.address}, i64 {access.size})")
