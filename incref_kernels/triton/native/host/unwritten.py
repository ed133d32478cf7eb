"""Which bytes of the tensors hold something: a load of one that nothing was stored to is a mistake (debug mode)."""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import PtrType

__all__ = ["watch_unwritten"]

# Address spaces of the tensors: generic and global.
_TENSORS = {0, 1}
_ADDRESS = {"load": 0, "store": 1, "atomicrmw": 0, "cmpxchg": 0}

# Where the byte at an address has its mark; null for an address outside of the tensors.
_MARK = f"""
define internal ptr @mark_of(ptr %ctx, i64 %address) noinline {{
entry:
  %extents.at = getelementptr i8, ptr %ctx, i64 {offset("extents")}
  %extents = load ptr, ptr %extents.at
  %count.at = getelementptr i8, ptr %ctx, i64 {offset("extent_count")}
  %count = load i64, ptr %count.at
  %marks.at = getelementptr i8, ptr %ctx, i64 {offset("marks")}
  %marks = load ptr, ptr %marks.at
  br label %next
next:
  %i = phi i64 [0, %entry], [%i.next, %compare]
  %base = phi i64 [0, %entry], [%base.next, %compare]
  %any = icmp ult i64 %i, %count
  br i1 %any, label %compare, label %outside
compare:
  %double = shl i64 %i, 1
  %start.at = getelementptr i64, ptr %extents, i64 %double
  %end.at = getelementptr i64, ptr %start.at, i64 1
  %start = load i64, ptr %start.at
  %end = load i64, ptr %end.at
  %length = sub i64 %end, %start
  %i.next = add i64 %i, 1
  %base.next = add i64 %base, %length
  %distance = sub i64 %address, %start
  %inside = icmp ult i64 %distance, %length
  br i1 %inside, label %found, label %next
found:
  %place = add i64 %base, %distance
  %mark = getelementptr i8, ptr %marks, i64 %place
  ret ptr %mark
outside:
  ret ptr null
}}
"""

_LOADED = f"""
define internal void @read_marks(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
  %first = ptrtoint ptr %address to i64
  %mark = call ptr @mark_of(ptr %ctx, i64 %first)
  %outside = icmp eq ptr %mark, null
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
  %error.at = getelementptr i8, ptr %ctx, i64 {offset("error")}
  %error = load i32, ptr %error.at
  %is.first = icmp eq i32 %error, 0
  br i1 %is.first, label %record, label %done
record:
  %bad = add i64 %first, %b
  %value.at = getelementptr i8, ptr %ctx, i64 {offset("error_value")}
  store i64 %bad, ptr %value.at
  call void @failed(ptr %ctx, i32 {Failure.READ_UNWRITTEN:d}, i32 %lane, i32 %site)
  br label %done
done:
  ret void
}}
"""

_STORED = """
define internal void @set_marks(ptr %ctx, ptr %address, i64 %size) noinline {
entry:
  %first = ptrtoint ptr %address to i64
  %mark = call ptr @mark_of(ptr %ctx, i64 %first)
  %outside = icmp eq ptr %mark, null
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
}
"""


def watch_unwritten(builder: LaneBuilder, inst: Instruction) -> None:
    """Write what has to be noted of an access of global memory, before it is made."""
    index = _ADDRESS.get(inst.opcode)
    if index is None:
        return
    address = inst.operands[index]
    if not isinstance(address.type, PtrType) or address.type.space not in _TENSORS:
        return
    builder.helper("@failed", FAILED)
    builder.helper("@mark_of", _MARK)
    value = inst.operands[0].type if inst.opcode == "store" else inst.operands[-1].type
    size = (inst.type if inst.opcode == "load" else value).size
    if inst.opcode != "store":
        builder.helper("@read_marks", _LOADED)
        site = builder.site(f"{inst.opcode} of {size} bytes")
        builder.emit(f"call void @read_marks(ptr %ctx, {address}, i64 {size}, i32 %tid, i32 {site})")
    if inst.opcode != "load":
        builder.helper("@set_marks", _STORED)
        builder.emit(f"call void @set_marks(ptr %ctx, {address}, i64 {size})")
