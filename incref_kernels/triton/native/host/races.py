"""Debug mode: no two lanes touch the same byte of shared memory, one of them writing, without a meeting in between.

Lanes of different waves need a barrier in between. Lanes of one wave need any meeting: a GPU runs them in step, here
one runs after the other up to the next meeting.
"""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import PtrType

__all__ = ["NOTE_BYTES", "number_stretches", "watch_shared"]

_SHARED = 3
# Of the last write and of the last read of a byte: 1 + the lane, the phase between barriers, the stretch between
# meetings.
NOTE_BYTES = 24

_STRETCH = f"""
define internal i32 @next_stretch(ptr %ctx) noinline {{
  %at = getelementptr i8, ptr %ctx, i64 {offset("stretch")}
  %old = load i32, ptr %at
  %new = add i32 %old, 1
  store i32 %new, ptr %at
  ret i32 %new
}}
"""

_WATCH = f"""
define internal i1 @meets_note(ptr %note, i32 %lane, i32 %phase, i32 %stretch) alwaysinline {{
  %who.noted = load i32, ptr %note
  %phase.at = getelementptr i32, ptr %note, i64 1
  %phase.noted = load i32, ptr %phase.at
  %stretch.at = getelementptr i32, ptr %note, i64 2
  %stretch.noted = load i32, ptr %stretch.at
  %is.noted = icmp ne i32 %who.noted, 0
  %who = sub i32 %who.noted, 1
  %is.other = icmp ne i32 %who, %lane
  %same.stretch = icmp eq i32 %stretch.noted, %stretch
  %same.phase = icmp eq i32 %phase.noted, %phase
  %bits = xor i32 %who, %lane
  %other.wave = icmp uge i32 %bits, 64
  %far = and i1 %other.wave, %same.phase
  %close = or i1 %far, %same.stretch
  %counts = and i1 %is.noted, %is.other
  %bad = and i1 %counts, %close
  ret i1 %bad
}}
define internal void @watch(ptr %ctx, ptr %lds, ptr %address, i64 %size, i32 %lane, i32 %site, i1 %writes) noinline {{
entry:
  %notes.at = getelementptr i8, ptr %ctx, i64 {offset("shared_notes")}
  %notes = load ptr, ptr %notes.at
  %phase.at = getelementptr i8, ptr %ctx, i64 {offset("phase")}
  %phase = load i32, ptr %phase.at
  %stretch.at = getelementptr i8, ptr %ctx, i64 {offset("stretch")}
  %stretch = load i32, ptr %stretch.at
  %first = ptrtoint ptr %address to i64
  %start = ptrtoint ptr %lds to i64
  %distance = sub i64 %first, %start
  %who = add i32 %lane, 1
  br label %bytes
bytes:
  %b = phi i64 [0, %entry], [%b.next, %next]
  %place = add i64 %distance, %b
  %note.place = mul i64 %place, {NOTE_BYTES}
  %written = getelementptr i8, ptr %notes, i64 %note.place
  %read = getelementptr i8, ptr %written, i64 12
  %after.write = call i1 @meets_note(ptr %written, i32 %lane, i32 %phase, i32 %stretch)
  %after.read = call i1 @meets_note(ptr %read, i32 %lane, i32 %phase, i32 %stretch)
  %bad.write = and i1 %writes, %after.read
  %read.only = xor i1 %writes, true
  %bad.read = and i1 %read.only, %after.write
  %bad = or i1 %bad.write, %bad.read
  br i1 %bad, label %record, label %keep
record:
  %from = select i1 %writes, ptr %read, ptr %written
  %other.noted = load i32, ptr %from
  %other = sub i32 %other.noted, 1
  call void @failed_at(ptr %ctx, i32 {Failure.SHARED_RACE:d}, i32 %lane, i32 %site, i64 %place, i32 %other)
  br label %keep
keep:
  %note = select i1 %writes, ptr %written, ptr %read
  store i32 %who, ptr %note
  %note.phase = getelementptr i32, ptr %note, i64 1
  store i32 %phase, ptr %note.phase
  %note.stretch = getelementptr i32, ptr %note, i64 2
  store i32 %stretch, ptr %note.stretch
  br label %next
next:
  %b.next = add i64 %b, 1
  %more = icmp ult i64 %b.next, %size
  br i1 %more, label %bytes, label %done
done:
  ret void
}}
"""


def number_stretches(builder: LaneBuilder) -> None:
    """Count the stretches between meetings as they are run."""
    builder.helper("@next_stretch", _STRETCH)
    builder.before_all("call i32 @next_stretch(ptr %ctx)")


def watch_shared(builder: LaneBuilder, inst: Instruction) -> None:
    """Write the note of a load or store of shared memory, or of an intrinsic whose lanes load and then exchange."""
    if inst.opcode not in {"load", "store", "call"}:
        return
    writes = inst.opcode == "store"
    address = next(iter(inst.operands[writes:]), None)
    if address is None or not isinstance(address.type, PtrType) or address.type.space != _SHARED:
        return
    size = (inst.operands[0].type if writes else inst.type).size
    builder.helper("@failed", FAILED)
    builder.helper("@watch", _WATCH)
    what = "store" if writes else "load"
    site = builder.site(f"{what} of {size} bytes of shared memory")
    flag = "true" if writes else "false"
    builder.emit(f"call void @watch(ptr %ctx, ptr %lds, {address}, i64 {size}, i32 %tid, i32 {site}, i1 {flag})")
