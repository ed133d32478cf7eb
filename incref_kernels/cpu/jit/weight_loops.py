"""The loops around a tile of a stored weight, as the text of an LLVM module: its rows are multiplied, or stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref_kernels.cpu.jit.entry import ENTRY
from incref_kernels.cpu.jit.lower import Lanes, Writer, element_type, vector_type
from incref_kernels.cpu.jit.ports import Kind, Port
from incref_kernels.cpu.jit.trace import trace

__all__ = ["SIZES", "RowsUse", "module_text"]

SIZES = ("first", "tiles", "block", "blocks", "row_extent", "out_step")
"""What a kernel is told, in order.

first: the first row of the weight that is read, whose result is at the start of the output.
tiles: in a row.
block: tiles of a block of columns that share scales.
blocks: in a row.
row_extent: rows that share scales.
out_step: elements between rows of the output.
"""


@dataclass(frozen=True, kw_only=True)
class RowsUse:
    """What is done with a row of the weight.

    Attributes:
        rows: of x, which it is multiplied with; 0 to store it.
        lanes: words of a tile.
        places: codes in a word; those of one place lie side by side in x and where values are stored.
        tile_is_block: whether a block of columns is one tile.
        dtype: of x and of what is stored.
    """

    rows: int
    lanes: int
    places: int
    tile_is_block: bool
    dtype: torch.dtype


def module_text(
    function: Callable[..., Tensor | tuple[Tensor, ...]], words: torch.dtype, scales: Sequence[Port], use: RowsUse
) -> str:
    """Write the module of a kernel.

    Its function `run` is `ENTRY`. Units are rows; tensors are words, what blocks share, x if there is one, and the
    output.

    Args:
        function: takes the words of a tile and what its block shares, and gives the values of each place.
        words: dtype of words.
        scales: what blocks share, and what all do.
        use: what is done with the values.
    """
    program = trace(function, [(words, (use.lanes,)), *((port.dtype, (1,)) for port in scales)])
    writer = Writer()
    word_type = vector_type(words, use.lanes)
    given = [Lanes(dtype=words, shape=(use.lanes,), registers=("%words",))]
    given += [Lanes(dtype=port.dtype, shape=(1,), registers=(f"%scale{i}",)) for i, port in enumerate(scales)]
    values, _ = writer.run(program, given)
    body = [*writer.lines, *(_products(values, use) if use.rows else _stores(values, use))]
    names = _sums(use)
    wide = vector_type(torch.float32, use.lanes)
    pointers = ["words", *(f"scales{i}" for i in range(len(scales))), *(["x"] if use.rows else []), "out"]
    head = [
        f"  %{name}.at = getelementptr ptr, ptr %arguments, i64 {i}\n  %{name}.p = load ptr, ptr %{name}.at"
        for i, name in enumerate(pointers)
    ]
    head += [
        f"  %{name}.at = getelementptr i64, ptr %sizes, i64 {i}\n  %{name} = load i64, ptr %{name}.at"
        for i, name in enumerate(SIZES)
    ]
    # A sum is carried from block to block, and within one from tile to tile.
    last = "next" if use.tile_is_block else "tile"
    blocks = [
        f"  %{name}.block = phi {wide} [ zeroinitializer, %row ], [ %{name}.{last}, %block.end ]" for name in names
    ]
    tiles = [f"  %{name}.tile = phi {wide} [ %{name}.block, %in.block ], [ %{name}.next, %tile ]" for name in names]
    load = []
    for i, port in enumerate(scales):
        kind = element_type(port.dtype)
        index = "%scale.index" if port.kind is Kind.SCALE else "0"
        load.append(f"  %scale{i}.at = getelementptr {kind}, ptr %scales{i}.p, i64 {index}")
        load.append(f"  %scale{i} = load {kind}, ptr %scale{i}.at")
    end = "\n"
    many = f"""
  %lo = mul i64 %g, %block
  %hi0 = add i64 %lo, %block
  %hi = call i64 @llvm.umin.i64(i64 %hi0, i64 %tiles)
  br label %in.tiles
in.tiles:
  %t = phi i64 [ %lo, %in.block ], [ %t.next, %tile ]
{end.join(tiles)}
  %more.tiles = icmp slt i64 %t, %hi
  br i1 %more.tiles, label %tile, label %block.end
"""
    one = """
  %t = add i64 %g, 0
  br label %tile
"""
    return f"""
define internal i1 @part(ptr %arguments, ptr %sizes, i64 %begin, i64 %end) {{
entry:
{end.join(head)}
  br label %rows
rows:
  %out.row = phi i64 [ %begin, %entry ], [ %row.next, %row.end ]
  %more = icmp slt i64 %out.row, %end
  br i1 %more, label %row, label %done
row:
  %n = add i64 %out.row, %first
  %tile.first = mul i64 %n, %tiles
  %scale.row = udiv i64 %n, %row_extent
  %scale.first = mul i64 %scale.row, %blocks
  br label %columns
columns:
  %g = phi i64 [ 0, %row ], [ %g.next, %block.end ]
{end.join(blocks)}
  %more.blocks = icmp slt i64 %g, %blocks
  br i1 %more.blocks, label %in.block, label %row.end
in.block:
  %scale.index = add i64 %scale.first, %g
{end.join(load)}
{one if use.tile_is_block else many}tile:
  %tile.at = add i64 %tile.first, %t
  %words.index = mul i64 %tile.at, {use.lanes}
  %words.here = getelementptr {element_type(words)}, ptr %words.p, i64 %words.index
  %words = load {word_type}, ptr %words.here, align {words.itemsize}
{end.join(body)}
  %t.next = add i64 %t, 1
  br label %{"block.end" if use.tile_is_block else "in.tiles"}
block.end:
  %g.next = add i64 %g, 1
  br label %columns
row.end:
{end.join(_results(use))}
  %row.next = add i64 %out.row, 1
  br label %rows
done:
  ret i1 false
}}
{ENTRY}

declare i64 @llvm.umin.i64(i64, i64)
"""


def _sums(use: RowsUse) -> list[str]:
    """Names of the sums: with one row of x there is one for each place, so that none waits for another."""
    places = use.places if use.rows == 1 else 1
    return [f"%sum{m}.{p}"[1:] for m in range(use.rows) for p in range(places)]


def _products(values: Sequence[Lanes], use: RowsUse) -> list[str]:
    """Multiply and add, with one rounding."""
    wide = vector_type(torch.float32, use.lanes)
    lines = [
        f"  %column = mul i64 %t, {use.lanes * use.places}",
        f"  %length = mul i64 %tiles, {use.lanes * use.places}",
    ]
    for m in range(use.rows):
        lines += [f"  %x{m}.row = mul i64 %length, {m}", f"  %x{m}.at = add i64 %x{m}.row, %column"]
        for p, value in enumerate(values):
            (register,) = value.registers
            name = f"sum{m}.{p if use.rows == 1 else 0}"
            before = (
                f"%{name}.{'block' if use.tile_is_block else 'tile'}" if use.rows == 1 or p == 0 else f"%{name}.{p}"
            )
            after = f"%{name}.next" if use.rows == 1 or p == use.places - 1 else f"%{name}.{p + 1}"
            terms = f"{wide} %x{m}.{p}, {wide} {register}, {wide} {before}"
            lines += [
                f"  %x{m}.{p}.at = add i64 %x{m}.at, {p * use.lanes}",
                f"  %x{m}.{p}.here = getelementptr float, ptr %x.p, i64 %x{m}.{p}.at",
                f"  %x{m}.{p} = load {wide}, ptr %x{m}.{p}.here, align 4",
                f"  {after} = call {wide} @llvm.fma.v{use.lanes}f32({terms})",
            ]
    return lines


def _stores(values: Sequence[Lanes], use: RowsUse) -> list[str]:
    lines = [
        f"  %column = mul i64 %t, {use.lanes * use.places}",
        "  %out.first = mul i64 %out.row, %out_step",
        "  %out.at0 = add i64 %out.first, %column",
    ]
    for p, value in enumerate(values):
        (register,) = value.registers
        lines += [
            f"  %out{p}.at = add i64 %out.at0, {p * use.lanes}",
            f"  %out{p}.here = getelementptr {element_type(use.dtype)}, ptr %out.p, i64 %out{p}.at",
            f"  store {value.type} {register}, ptr %out{p}.here, align {use.dtype.itemsize}",
        ]
    return lines


def _results(use: RowsUse) -> list[str]:
    """Add up the lanes of every sum, and store them."""
    wide = vector_type(torch.float32, use.lanes)
    lines = []
    for m in range(use.rows):
        total = f"%sum{m}.0.block"
        for p in range(1, use.places if use.rows == 1 else 1):
            lines.append(f"  %total{m}.{p} = fadd {wide} {total}, %sum{m}.{p}.block")
            total = f"%total{m}.{p}"
        lines += [
            f"  %y{m} = call reassoc float @llvm.vector.reduce.fadd.v{use.lanes}f32(float 0.0, {wide} {total})",
            f"  %y{m}.first = mul i64 %out_step, {m}",
            f"  %y{m}.at = add i64 %y{m}.first, %out.row",
            f"  %y{m}.here = getelementptr float, ptr %out.p, i64 %y{m}.at",
            f"  store float %y{m}, ptr %y{m}.here, align 4",
        ]
    return lines
