"""Accesses of the tensors: which instructions make them, and which byte of all the tensors an address is."""

from dataclasses import dataclass

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import PtrType
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["PLACE", "TensorAccess", "tensor_access"]

# Which operand is the address.
_ADDRESS = {"load": 0, "store": 1, "atomicrmw": 0, "cmpxchg": 0}
# Address spaces of the tensors: generic and global.
_TENSORS = {0, 1}

PLACE = f"""
define internal i64 @place_of(ptr %ctx, i64 %first, i64 %size) noinline {{
entry:
  %extents.at = getelementptr i8, ptr %ctx, i64 {offset("extents")}
  %extents = load ptr, ptr %extents.at
  %count.at = getelementptr i8, ptr %ctx, i64 {offset("extent_count")}
  %count = load i64, ptr %count.at
  %last = add i64 %first, %size
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
  %above = icmp uge i64 %first, %start
  %below = icmp ule i64 %last, %end
  %inside = and i1 %above, %below
  %length = sub i64 %end, %start
  %i.next = add i64 %i, 1
  %base.next = add i64 %base, %length
  br i1 %inside, label %found, label %next
found:
  %distance = sub i64 %first, %start
  %place = add i64 %base, %distance
  ret i64 %place
outside:
  ret i64 -1
}}
"""
"""Numbers the bytes of all tensors, one tensor after the other; -1 for an access that no tensor holds."""


@dataclass(frozen=True, kw_only=True)
class TensorAccess:
    """A load, store or atomic of global memory.

    Attributes:
        index: which operand is the address.
        address: that operand.
        size: how many bytes are touched.
    """

    index: int
    address: Typed
    size: int


def tensor_access(inst: Instruction) -> TensorAccess | None:
    """Describe the access that `inst` makes of global memory; None if it makes none."""
    index = _ADDRESS.get(inst.opcode)
    if index is None:
        return None
    address = inst.operands[index]
    if not isinstance(address.type, PtrType) or address.type.space not in _TENSORS:
        return None
    stored = inst.operands[0] if inst.opcode == "store" else inst.operands[-1]
    kind = inst.type if inst.opcode == "load" else stored.type
    return TensorAccess(index=index, address=address, size=kind.size)
