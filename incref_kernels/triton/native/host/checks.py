"""What can be checked while a kernel runs. A check that fails is recorded; the launch fails when the lanes stop next.

Bounds: an access outside of the tensors goes to a spare place instead. Writers: each byte of the tensors has a note of
the program that wrote it.
"""

from dataclasses import replace
from enum import Enum, auto

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import PtrType

__all__ = ["Check", "checked", "note_writer"]


class Check(Enum):
    """A debug mode."""

    BOUNDS = auto()
    """No load, store or atomic outside of the memory of the tensors that the kernel was given."""
    WRITERS = auto()
    """No element is stored to by two programs; atomics are left out."""
    SHARED = auto()
    """No race in shared memory (see `host.races`)."""
    UNWRITTEN = auto()
    """No load of an output before something is stored to it, and no element of it left out (see `host.unwritten`)."""
    NAN = auto()
    """No operation that gives NaN of operands that are none (see `host.nans`)."""


# Which operand is the address.
_ADDRESS = {"load": 0, "store": 1, "atomicrmw": 0, "cmpxchg": 0}
# Address spaces of the tensors: generic and global.
_TENSORS = {0, 1}
_CHECK = f"""
define internal ptr @checked(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
  %extents.at = getelementptr i8, ptr %ctx, i64 {offset("extents")}
  %extents = load ptr, ptr %extents.at
  %count.at = getelementptr i8, ptr %ctx, i64 {offset("extent_count")}
  %count = load i64, ptr %count.at
  %first = ptrtoint ptr %address to i64
  %last = add i64 %first, %size
  br label %next
next:
  %i = phi i64 [0, %entry], [%i.next, %compare]
  %any = icmp ult i64 %i, %count
  br i1 %any, label %compare, label %outside
compare:
  %double = shl i64 %i, 1
  %start.at = getelementptr i64, ptr %extents, i64 %double
  %end.at = getelementptr i64, ptr %start.at, i64 1
  %start = load i64, ptr %start.at
  %end = load i64, ptr %end.at
  %above = icmp uge i64 %first, %start
  %below = icmp ule i64 %last, %end
  %inside = and i1 %above, %below
  %i.next = add i64 %i, 1
  br i1 %inside, label %good, label %next
good:
  ret ptr %address
outside:
  %error.at = getelementptr i8, ptr %ctx, i64 {offset("error")}
  %error = load i32, ptr %error.at
  %is.first = icmp eq i32 %error, 0
  br i1 %is.first, label %record, label %spare
record:
  %value.at = getelementptr i8, ptr %ctx, i64 {offset("error_value")}
  store i64 %first, ptr %value.at
  call void @failed(ptr %ctx, i32 {Failure.OUT_OF_BOUNDS:d}, i32 %lane, i32 %site)
  br label %spare
spare:
  %spare.at = getelementptr i8, ptr %ctx, i64 {offset("spare")}
  %place = load ptr, ptr %spare.at
  ret ptr %place
}}
"""


_WRITERS = f"""
define internal void @wrote(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
  %extents.at = getelementptr i8, ptr %ctx, i64 {offset("extents")}
  %extents = load ptr, ptr %extents.at
  %count.at = getelementptr i8, ptr %ctx, i64 {offset("extent_count")}
  %count = load i64, ptr %count.at
  %notes.at = getelementptr i8, ptr %ctx, i64 {offset("notes")}
  %notes = load ptr, ptr %notes.at
  %x.at = getelementptr i8, ptr %ctx, i64 {offset("pid")}
  %x = load i32, ptr %x.at
  %y.at = getelementptr i32, ptr %x.at, i64 1
  %y = load i32, ptr %y.at
  %z.at = getelementptr i32, ptr %x.at, i64 2
  %z = load i32, ptr %z.at
  %nx.at = getelementptr i8, ptr %ctx, i64 {offset("grid")}
  %nx = load i32, ptr %nx.at
  %ny.at = getelementptr i32, ptr %nx.at, i64 1
  %ny = load i32, ptr %ny.at
  %rows = mul i32 %z, %ny
  %row = add i32 %rows, %y
  %programs = mul i32 %row, %nx
  %program = add i32 %programs, %x
  %note = add i32 %program, 1
  %first = ptrtoint ptr %address to i64
  br label %next
next:
  %i = phi i64 [0, %entry], [%i.next, %compare]
  %base = phi i64 [0, %entry], [%base.next, %compare]
  %any = icmp ult i64 %i, %count
  br i1 %any, label %compare, label %done
compare:
  %double = shl i64 %i, 1
  %start.at = getelementptr i64, ptr %extents, i64 %double
  %end.at = getelementptr i64, ptr %start.at, i64 1
  %start = load i64, ptr %start.at
  %end = load i64, ptr %end.at
  %length = sub i64 %end, %start
  %i.next = add i64 %i, 1
  %base.next = add i64 %base, %length
  %distance = sub i64 %first, %start
  %inside = icmp ult i64 %distance, %length
  br i1 %inside, label %found, label %next
found:
  %place = add i64 %base, %distance
  br label %bytes
bytes:
  %b = phi i64 [0, %found], [%b.next, %fine]
  %index = add i64 %place, %b
  %old.at = getelementptr i32, ptr %notes, i64 %index
  %old = atomicrmw xchg ptr %old.at, i32 %note monotonic
  %is.new = icmp eq i32 %old, 0
  %is.own = icmp eq i32 %old, %note
  %good = or i1 %is.new, %is.own
  br i1 %good, label %fine, label %twice
fine:
  %b.next = add i64 %b, 1
  %more = icmp ult i64 %b.next, %size
  br i1 %more, label %bytes, label %done
twice:
  %error.at = getelementptr i8, ptr %ctx, i64 {offset("error")}
  %error = load i32, ptr %error.at
  %is.first = icmp eq i32 %error, 0
  br i1 %is.first, label %record, label %done
record:
  %bad = add i64 %first, %b
  %value.at = getelementptr i8, ptr %ctx, i64 {offset("error_value")}
  store i64 %bad, ptr %value.at
  %other.at = getelementptr i8, ptr %ctx, i64 {offset("error_other")}
  %other = sub i32 %old, 1
  store i32 %other, ptr %other.at
  call void @failed(ptr %ctx, i32 {Failure.WRITTEN_TWICE:d}, i32 %lane, i32 %site)
  br label %done
done:
  ret void
}}
"""


def checked(builder: LaneBuilder, inst: Instruction) -> Instruction:
    """Write the check of an access of global memory; the access of the address that it gives."""
    index = _ADDRESS.get(inst.opcode)
    if index is None:
        return inst
    address = inst.operands[index]
    if not isinstance(address.type, PtrType) or address.type.space not in _TENSORS:
        return inst
    builder.helper("@failed", FAILED)
    builder.helper("@checked", _CHECK)
    kind = inst.operands[0].type if inst.opcode == "store" else inst.operands[-1].type
    size = (inst.type if inst.opcode == "load" else kind).size
    site = builder.site(f"{inst.opcode} of {size} bytes")
    safe = builder.value(f"call ptr @checked(ptr %ctx, {address}, i64 {size}, i32 %tid, i32 {site})")
    operands = list(inst.operands)
    operands[index] = builder.typed(address.type, safe)
    return replace(inst, operands=tuple(operands))


def note_writer(builder: LaneBuilder, inst: Instruction) -> None:
    """Write the note of a store to global memory."""
    if inst.opcode != "store":
        return
    value, address = inst.operands
    if not isinstance(address.type, PtrType) or address.type.space not in _TENSORS:
        return
    builder.helper("@failed", FAILED)
    builder.helper("@wrote", _WRITERS)
    site = builder.site(f"store of {value.type.size} bytes")
    builder.emit(f"call void @wrote(ptr %ctx, {address}, i64 {value.type.size}, i32 %tid, i32 {site})")
