"""Debug mode: no access of global memory outside of the tensors that the kernel was given.

An access that fails is recorded and goes to a spare place instead; the launch fails when the program's lanes stop next.
"""

from dataclasses import replace

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import PtrType

__all__ = ["checked"]

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
