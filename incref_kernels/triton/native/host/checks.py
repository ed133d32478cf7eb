"""What can be checked while a kernel runs. A check that fails is recorded; the launch fails when the lanes stop next.

Bounds: an access outside of the tensors goes to a spare place instead. Writers: each byte of the tensors has a note of
the program that wrote it.
"""

from dataclasses import replace
from enum import Enum, auto

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.host.tensors import PLACE, tensor_access
from incref_kernels.triton.native.llir.model import Instruction

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


_CHECK = f"""
define internal ptr @checked(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
  %first = ptrtoint ptr %address to i64
  %place = call i64 @place_of(ptr %ctx, i64 %first, i64 %size)
  %outside = icmp slt i64 %place, 0
  br i1 %outside, label %bad, label %good
good:
  ret ptr %address
bad:
  call void @failed_at(ptr %ctx, i32 {Failure.OUT_OF_BOUNDS:d}, i32 %lane, i32 %site, i64 %first, i32 0)
  %spare.at = getelementptr i8, ptr %ctx, i64 {offset("spare")}
  %spare = load ptr, ptr %spare.at
  ret ptr %spare
}}
"""

_WRITERS = f"""
define internal void @wrote(ptr %ctx, ptr %address, i64 %size, i32 %lane, i32 %site) noinline {{
entry:
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
  %place = call i64 @place_of(ptr %ctx, i64 %first, i64 %size)
  %outside = icmp slt i64 %place, 0
  br i1 %outside, label %done, label %bytes
bytes:
  %b = phi i64 [0, %entry], [%b.next, %fine]
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
  %bad = add i64 %first, %b
  %other = sub i32 %old, 1
  call void @failed_at(ptr %ctx, i32 {Failure.WRITTEN_TWICE:d}, i32 %lane, i32 %site, i64 %bad, i32 %other)
  br label %done
done:
  ret void
}}
"""


def checked(builder: LaneBuilder, inst: Instruction) -> Instruction:
    """Write the check of an access of global memory; the access of the address that it gives."""
    access = tensor_access(inst)
    if access is None:
        return inst
    builder.helper("@failed", FAILED)
    builder.helper("@place_of", PLACE)
    builder.helper("@checked", _CHECK)
    site = builder.site(f"{inst.opcode} of {access.size} bytes")
    safe = builder.value(f"call ptr @checked(ptr %ctx, {access.address}, i64 {access.size}, i32 %tid, i32 {site})")
    operands = list(inst.operands)
    operands[access.index] = builder.typed(access.address.type, safe)
    return replace(inst, operands=tuple(operands))


def note_writer(builder: LaneBuilder, inst: Instruction) -> None:
    """Write the note of a store to global memory."""
    access = tensor_access(inst)
    if access is None or inst.opcode != "store":
        return
    builder.helper("@failed", FAILED)
    builder.helper("@place_of", PLACE)
    builder.helper("@wrote", _WRITERS)
    site = builder.site(f"store of {access.size} bytes")
    builder.emit(f"call void @wrote(ptr %ctx, {access.address}, i64 {access.size}, i32 %tid, i32 {site})")
