"""What a thread calls: the text of the function that every LLVM module of a kernel has."""

import struct
import sys

from incref_kernels.cpu.jit.threads import FLUSHED, LOST, Work

__all__ = ["ENTRY"]

_LEAST_NORMAL = f"0x{struct.unpack('<Q', struct.pack('<d', sys.float_info.min))[0]:016X}"
_FIELDS = "\n".join(
    f"  %{name}.at = getelementptr i64, ptr %work, i64 {i}" for i, (name, *_) in enumerate(Work._fields_)
)

ENTRY = f"""
define void @run(ptr %work) {{
entry:
  %tiny.at = alloca double
  store volatile double {_LEAST_NORMAL}, ptr %tiny.at
  %tiny = load volatile double, ptr %tiny.at
  %half = fmul double %tiny, 0.5
  %is.flushed = fcmp oeq double %half, 0.0
{_FIELDS}
  %arguments = load ptr, ptr %arguments.at
  %sizes = load ptr, ptr %sizes.at
  %units = load i64, ptr %units.at
  %parts = load i64, ptr %parts.at
  br i1 %is.flushed, label %refuse, label %take
refuse:
  %ignored = atomicrmw or ptr %result.at, i64 {FLUSHED} monotonic
  ret void
take:
  %i = atomicrmw add ptr %taken.at, i64 1 monotonic
  %more = icmp slt i64 %i, %parts
  br i1 %more, label %do, label %done
do:
  %begin0 = mul i64 %units, %i
  %begin = udiv i64 %begin0, %parts
  %end0 = add i64 %begin0, %units
  %end = udiv i64 %end0, %parts
  %lost = call i1 @part(ptr %arguments, ptr %sizes, i64 %begin, i64 %end)
  %found = select i1 %lost, i64 {LOST}, i64 0
  %ignored.too = atomicrmw or ptr %result.at, i64 %found monotonic
  br label %take
done:
  ret void
}}
"""
"""The function `run`, which takes the address of a `Work` and has `part(arguments, sizes, begin, end)` do parts of it
until none is left. Any number of threads may call it.

`part` says whether an element was lost.
"""
