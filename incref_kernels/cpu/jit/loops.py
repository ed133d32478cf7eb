"""The loops around a tile, as the text of an LLVM module."""

from collections.abc import Callable, Sequence
from itertools import starmap

from torch import Tensor

from incref_kernels.cpu.jit.beside import FETCH, ahead, fetch, place_beside, put
from incref_kernels.cpu.jit.entry import ENTRY
from incref_kernels.cpu.jit.lower import Lanes, Writer, element_type
from incref_kernels.cpu.jit.ports import Kind, Port, TileShape
from incref_kernels.cpu.jit.trace import trace

__all__ = ["SIZES", "module_text"]

SIZES = (
    "length",
    "inner",
    "extent",
    "segment",
    "per_block",
    "blocks",
    "row_blocks",
    "rows",
    "row_extent",
)
"""What a kernel is told of its tensors, in order.

length, inner: extents of a matrix.
extent: of a block of columns.
segment: columns of a unit, which is a piece of a block of columns in a row of tiles: a multiple of the lanes of a tile,
but for the last one of a block.
per_block: units of a block of columns.
blocks: blocks of columns.
row_blocks: rows of tiles in a matrix.
rows, row_extent: how many rows there are, and how many of them share a scale, where tiles are pieces of rows.
"""


def module_text(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    shape: TileShape,
) -> str:
    """Write the module of a kernel that applies `function` to every tile.

    Its function `run` takes the address of a `Work`, and does parts of it until none are left; see `Work.result` for
    what it finds. Any number of threads may call it.
    """
    body, lost = _tile(function, inputs, outputs, shape)
    ports = [*inputs, *outputs]
    scratch = [_memory(i, port, shape) for i, port in enumerate(ports) if _is_wide(port, shape)]
    pointers = [
        f"  %p{i}.at = getelementptr ptr, ptr %arguments, i64 {i}\n  %p{i} = load ptr, ptr %p{i}.at"
        for i in range(len(ports))
    ]
    sizes = [
        f"  %{name}.at = getelementptr i64, ptr %sizes, i64 {i}\n  %{name} = load i64, ptr %{name}.at"
        for i, name in enumerate(SIZES)
    ]
    height = max(shape.rows, 1)
    places, stage, unstage, moves, fetches, puts = [], [], [], [], [], []
    for i, port in enumerate(ports):
        if shape.is_beside(port.kind):
            fetches.append(fetch(i, port, shape, is_input=i < len(inputs)))
            puts += [put(i, port, shape)] if i >= len(inputs) else []
            places += [place_beside(i, port, shape), ahead(i, port, shape, is_input=i < len(inputs))]
            continue
        places.append(_place(i, port, shape))
        if _is_wide(port, shape):
            is_output = i >= len(inputs)
            stage.append(_copies(i, port, shape, is_output=False, is_input=not is_output))
            unstage += [_copies(i, port, shape, is_output=True, is_input=False)] if is_output else []
            moves.append(
                f"  %a{i} = phi ptr [ %d{i}, %tile ], [ %s{i}, %stage ]\n"
                f"  %t{i} = phi i64 [ {_stride(port, shape)}, %tile ], [ {shape.lanes}, %stage ]"
            )
    new_line = "\n"
    return f"""
define internal i1 @part(ptr %arguments, ptr %sizes, i64 %begin, i64 %end) {{
entry:
{new_line.join([*scratch, *pointers, *sizes])}
  %part.first = urem i64 %begin, %per_block
  %u1 = udiv i64 %begin, %per_block
  %g.first = urem i64 %u1, %blocks
  %u2 = udiv i64 %u1, %blocks
  %b.first = urem i64 %u2, %row_blocks
  %m.first = udiv i64 %u2, %row_blocks
  %scale.rows0 = add i64 %rows, %row_extent
  %scale.rows1 = sub i64 %scale.rows0, 1
  %scale.rows = udiv i64 %scale.rows1, %row_extent
  br label %units
units:
  %u = phi i64 [ %begin, %entry ], [ %u.next, %unit.end ]
  %part = phi i64 [ %part.first, %entry ], [ %part.next, %unit.end ]
  %g = phi i64 [ %g.first, %entry ], [ %g.next, %unit.end ]
  %b = phi i64 [ %b.first, %entry ], [ %b.next, %unit.end ]
  %m = phi i64 [ %m.first, %entry ], [ %m.next, %unit.end ]
  %lost = phi i1 [ false, %entry ], [ %lost.unit, %unit.end ]
  %more = icmp slt i64 %u, %end
  br i1 %more, label %unit, label %done
unit:
  %block.lo = mul i64 %g, %extent
  %block.hi0 = add i64 %block.lo, %extent
  %block.hi = call i64 @llvm.umin.i64(i64 %block.hi0, i64 %inner)
  %part.lo = mul i64 %part, %segment
  %lo = add i64 %block.lo, %part.lo
  %hi0 = add i64 %lo, %segment
  %hi = call i64 @llvm.umin.i64(i64 %hi0, i64 %block.hi)
  %row.first = mul i64 %b, {height}
  %matrix.first = mul i64 %m, %length
  %row = add i64 %matrix.first, %row.first
  %row.left = sub i64 %length, %row.first
  %nr = call i64 @llvm.umin.i64(i64 %row.left, i64 {height})
  %row.at = mul i64 %row, %inner
  %tiles0 = add i64 %extent, {shape.lanes - 1}
  %tiles = udiv i64 %tiles0, {shape.lanes}
  %tiles.row0 = mul i64 %row, %blocks
  %tiles.row = add i64 %tiles.row0, %g
  %tiles.at = mul i64 %tiles.row, %tiles
  %across0 = mul i64 %m, %row_blocks
  %across1 = add i64 %across0, %b
  %across = mul i64 %across1, %inner
  %outer = udiv i64 %m, %rows
  %in.outer = urem i64 %m, %rows
  %scale.row0 = mul i64 %outer, %scale.rows
  %scale.row1 = udiv i64 %in.outer, %row_extent
  %scale.row = add i64 %scale.row0, %scale.row1
  %scale.at0 = mul i64 %scale.row, %blocks
  %scale.at = add i64 %scale.at0, %g
  %column.at = mul i64 %scale.row, %inner
  %wide = sub i64 %hi, %lo
{new_line.join(fetches)}
  br label %tiles.loop
tiles.loop:
  %col = phi i64 [ %lo, %unit ], [ %col.next, %next ]
  %lost.unit = phi i1 [ %lost, %unit ], [ %lost.tile, %next ]
  %in.row = icmp slt i64 %col, %hi
  br i1 %in.row, label %tile, label %unit.end
tile:
  %left = sub i64 %hi, %col
  %nc = call i64 @llvm.umin.i64(i64 %left, i64 {shape.width})
  %in.block = sub i64 %col, %block.lo
  %tile.in = udiv i64 %in.block, {shape.lanes}
{new_line.join(places)}
  %full = icmp eq i64 %nc, {shape.width}
  br i1 %full, label %compute, label %stage, !prof !0
stage:
{new_line.join(stage)}
  br label %compute
compute:
{new_line.join(moves)}
{new_line.join(body)}
  %lost.tile = or i1 %lost.unit, {lost}
  br i1 %full, label %next, label %unstage, !prof !0
unstage:
{new_line.join(unstage)}
  br label %next
next:
  %col.next = add i64 %col, {shape.width}
  br label %tiles.loop
unit.end:
{new_line.join(puts)}
  %u.next = add i64 %u, 1
{_next("part", "u", "per_block")}
{_next("g", "part", "blocks")}
{_next("b", "g", "row_blocks")}
  %m.up = zext i1 %b.wraps to i64
  %m.next = add i64 %m, %m.up
  br label %units
done:
  ret i1 %lost
}}

{ENTRY}
{FETCH}
{_HELPERS}
"""


def _next(name: str, before: str, count: str) -> str:
    """Count on where the counter before begins anew; the first one counts every unit."""
    up = f"  %{name}.up = add i64 0, 1" if before == "u" else f"  %{name}.up = zext i1 %{before}.wraps to i64"
    return f"""{up}
  %{name}.more = add i64 %{name}, %{name}.up
  %{name}.wraps = icmp eq i64 %{name}.more, %{count}
  %{name}.next = select i1 %{name}.wraps, i64 0, i64 %{name}.more"""


# Copies a part of a tile between a tensor and the memory beside it.
_HELPERS = """
define internal void @move(ptr %to, i64 %to.step, ptr %from, i64 %from.step, i64 %rows, i64 %bytes) noinline {
entry:
  br label %loop
loop:
  %r = phi i64 [ 0, %entry ], [ %r.next, %body ]
  %more = icmp slt i64 %r, %rows
  br i1 %more, label %body, label %done
body:
  %to.at0 = mul i64 %r, %to.step
  %to.at = getelementptr i8, ptr %to, i64 %to.at0
  %from.at0 = mul i64 %r, %from.step
  %from.at = getelementptr i8, ptr %from, i64 %from.at0
  call void @llvm.memcpy.p0.p0.i64(ptr %to.at, ptr %from.at, i64 %bytes, i1 false)
  %r.next = add i64 %r, 1
  br label %loop
done:
  ret void
}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

!0 = !{!"branch_weights", i32 1000, i32 1}
"""


def _tile(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    shape: TileShape,
) -> tuple[list[str], str]:
    program = trace(function, [(port.dtype, shape.of(port.kind)) for port in inputs])
    writer = Writer()
    given = list(starmap(lambda i, port: _load(writer, i, port, shape), enumerate(inputs)))
    results, lost = writer.run(program, given)
    for i, (port, result) in enumerate(zip(outputs, results, strict=True), start=len(inputs)):
        _store(writer, i, port, shape, result)
    return writer.lines, lost


def _is_wide(port: Port, shape: TileShape) -> bool:
    """Whether the part of a tile is more than one element, so that an incomplete tile needs memory beside."""
    return shape.of(port.kind) != (1,)


def _stride(port: Port, shape: TileShape) -> str:
    """From one register's elements to the next one's."""
    if port.kind is not Kind.ELEMENT:
        return "0"
    return f"{shape.lanes}"


def _memory(i: int, port: Port, shape: TileShape) -> str:
    """Memory beside a tensor, for a tile or for a unit."""
    count = shape.rows * shape.segment if shape.is_beside(port.kind) else shape.width
    return f"  %s{i} = alloca {element_type(port.dtype)}, i64 {count}, align 64"


def _place(i: int, port: Port, shape: TileShape) -> str:
    """Find where the part of a tile begins."""
    element = element_type(port.dtype)
    match port.kind:
        case Kind.ELEMENT:
            index = f"  %i{i} = add i64 %row.at, %col"
        case Kind.TILE if shape.rows:
            index = f"  %i{i} = add i64 %across, %col"
        case Kind.TILE:
            index = f"  %i{i} = add i64 %tiles.at, %tile.in"
        case Kind.SCALE:
            index = f"  %i{i} = add i64 %scale.at, 0"
        case Kind.COLUMN:
            index = f"  %i{i} = add i64 %column.at, %col"
        case Kind.EVERY_ROW:
            index = f"  %i{i} = add i64 %col, 0"
        case Kind.WHOLE:
            index = f"  %i{i} = add i64 0, 0"
    return f"{index}\n  %d{i} = getelementptr {element}, ptr %p{i}, i64 %i{i}"


def _copies(i: int, port: Port, shape: TileShape, *, is_output: bool, is_input: bool) -> str:
    """Copy the part of an incomplete tile; the rest of the memory beside is 0, or a positive scale."""
    size = port.dtype.itemsize
    tag = f"{i}.{'out' if is_output else 'in'}"
    count = f"  %n{tag} = add i64 %nc, 0"
    if port.kind is Kind.TILE and shape.pieces > 1:
        count = f"  %n{tag}.up = add i64 %nc, {shape.lanes - 1}\n  %n{tag} = udiv i64 %n{tag}.up, {shape.lanes}"
    step = f"{count}\n  %b{tag} = mul i64 %n{tag}, {size}\n  %w{tag} = mul i64 {_stride(port, shape)}, {size}\n"
    beside, tensor = f"ptr %s{i}, i64 {shape.width * size}", f"ptr %d{i}, i64 %w{tag}"
    if is_output:
        return f"{step}  call void @move({tensor}, {beside}, i64 1, i64 %b{tag})"
    # A scale that is missing must not make NaN of a zero that is: this byte makes a positive number in every dtype.
    fill = 0x3F if port.kind in (Kind.COLUMN, Kind.EVERY_ROW) else 0
    clear = f"  call void @llvm.memset.p0.i64(ptr %s{i}, i8 {fill}, i64 {shape.width * size}, i1 false)"
    return f"{step}{clear}\n  call void @move({beside}, {tensor}, i64 1, i64 %b{tag})" if is_input else clear


def _addresses(writer: Writer, i: int, port: Port, shape: TileShape) -> list[str]:
    if not _is_wide(port, shape):
        return [f"%d{i}"]
    rows = max(shape.rows, shape.pieces) if port.kind is Kind.ELEMENT else 1
    found = []
    for r in range(rows):
        offset = writer.new(f"mul i64 %t{i}, {r}")
        found.append(writer.new(f"getelementptr {element_type(port.dtype)}, ptr %a{i}, i64 {offset}"))
    return found


def _load(writer: Writer, i: int, port: Port, shape: TileShape) -> Lanes:
    part = shape.of(port.kind)
    addresses = _addresses(writer, i, port, shape)
    kind = Lanes(dtype=port.dtype, shape=part, registers=()).type
    registers = tuple(writer.new(f"load {kind}, ptr {at}, align {port.dtype.itemsize}") for at in addresses)
    return Lanes(dtype=port.dtype, shape=part, registers=registers)


def _store(writer: Writer, i: int, port: Port, shape: TileShape, result: Lanes) -> None:
    value = writer.lanes(result, port.dtype, shape.of(port.kind))
    for register, at in zip(value.registers, _addresses(writer, i, port, shape), strict=True):
        writer.lines.append(f"  store {value.type} {register}, ptr {at}, align {port.dtype.itemsize}")
