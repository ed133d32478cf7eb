"""Memory beside a tensor for the part of a unit: rows of a tensor lie too far apart to be read tile by tile."""

from incref_kernels.cpu.jit.lower import element_type
from incref_kernels.cpu.jit.ports import Port, TileShape

__all__ = ["FETCH", "ahead", "fetch", "place_beside", "put"]

# Into the second cache: the first one is full of the memory beside.
_LOCALITY = 2

FETCH = """
define internal void @fetch(ptr %to, i64 %step, ptr %from, i64 %from.step, i64 %rows, i64 %bytes, i64 %height)
    noinline {
entry:
  %rows.full = icmp eq i64 %rows, %height
  %bytes.full = icmp eq i64 %bytes, %step
  %full = and i1 %rows.full, %bytes.full
  br i1 %full, label %copy, label %clear
clear:
  %all = mul i64 %height, %step
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %all, i1 false)
  br label %copy
copy:
  call void @move(ptr %to, i64 %step, ptr %from, i64 %from.step, i64 %rows, i64 %bytes)
  ret void
}
"""
"""Copies rows to the memory beside; what is missing there is 0."""


def fetch(i: int, port: Port, shape: TileShape, *, is_input: bool) -> str:
    """Find the part of a unit, and copy that of an input."""
    element, size = element_type(port.dtype), port.dtype.itemsize
    found = f"""  %i{i}.unit = add i64 %row.at, %lo
  %d{i}.unit = getelementptr {element}, ptr %p{i}, i64 %i{i}.unit
  %w{i}.unit = mul i64 %inner, {size}
  %b{i}.unit = mul i64 %wide, {size}"""
    if not is_input:
        return found
    step = shape.segment * size
    tensor = f"ptr %d{i}.unit, i64 %w{i}.unit, i64 %nr, i64 %b{i}.unit"
    return f"{found}\n  call void @fetch(ptr %s{i}, i64 {step}, {tensor}, i64 {shape.rows})"


def put(i: int, port: Port, shape: TileShape) -> str:
    """Copy the part of a unit back."""
    step = shape.segment * port.dtype.itemsize
    return f"  call void @move(ptr %d{i}.unit, i64 %w{i}.unit, ptr %s{i}, i64 {step}, i64 %nr, i64 %b{i}.unit)"


def place_beside(i: int, port: Port, shape: TileShape) -> str:
    """Find where the part of a tile begins in the memory beside."""
    return f"""  %i{i} = sub i64 %col, %lo
  %a{i} = getelementptr {element_type(port.dtype)}, ptr %s{i}, i64 %i{i}
  %t{i} = add i64 {shape.segment}, 0"""


def ahead(i: int, port: Port, shape: TileShape, *, is_input: bool) -> str:
    """Ask for what the next unit reads, or for what this one will write, as far as it lies beneath a tile.

    Rows are too many for a processor to see that they are read in order. What lies behind a tensor is only a hint.
    """
    element = element_type(port.dtype)
    bytes_ahead = shape.segment * port.dtype.itemsize if is_input else 0
    lines = [
        f"  %f{i} = getelementptr {element}, ptr %d{i}.unit, i64 %i{i}",
        f"  %f{i}.0 = getelementptr i8, ptr %f{i}, i64 {bytes_ahead}",
    ]
    for r in range(shape.rows):
        if r:
            lines.append(f"  %f{i}.{r} = getelementptr i8, ptr %f{i}.{r - 1}, i64 %w{i}.unit")
        lines.append(f"  call void @llvm.prefetch.p0(ptr %f{i}.{r}, i32 {int(not is_input)}, i32 {_LOCALITY}, i32 1)")
    return "\n".join(lines)
