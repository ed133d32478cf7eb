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

# Sums that don't wait for each other: as many as a processor adds at once, times the steps that an addition takes.
_CHAINS = 8
_LOOK_UP = "llvm.x86.avx512.permvar.sf.512"

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
    """What is done with rows of the weight.

    Attributes:
        rows: of x, which it is multiplied with; 0 to store it.
        together: rows of the weight that are multiplied at once, with elements of x that are read once.
        lanes: words of a tile.
        places: codes in a word, a power of two; those of one place lie side by side in x.
        tile_is_block: whether a block of columns is one tile.
        dtype: of x and of what is stored: float32, or bfloat16 if values are rounded to that.
        bits: of a code.
        table: which code each pattern of the lowest four bits of a word means, for values to be looked up; else None.
    """

    rows: int
    together: int
    lanes: int
    places: int
    tile_is_block: bool
    dtype: torch.dtype
    bits: int
    table: tuple[int, ...] | None


def module_text(
    function: Callable[..., Tensor | tuple[Tensor, ...]], words: torch.dtype, scales: Sequence[Port], use: RowsUse
) -> str:
    """Write the module of a kernel.

    Its function `run` is `ENTRY`. Units are rows; tensors are words, what blocks share, x if there is one, and the
    output.

    Args:
        function: takes the words of a tile and what its block shares, and gives the values of each place; with a
            table, one code in each int32 and gives its value in float32.
        words: dtype of words.
        scales: what blocks share, and what all do.
        use: what is done with the values.
    """
    writer = Writer()
    tables: list[str] = []
    values = []
    for r in range(use.together):
        found = _values(writer, function, words, scales, use, r)
        tables += found.once
        values.append(found.places)
    after = _products(values, use) if use.rows else _stores(writer, values[0], use)
    body = [*writer.lines, *after]
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
    places = [_row(words, scales, use, r) for r in range(use.together)]
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
  %last.row = sub i64 %end, 1
  br label %rows
rows:
  %out.row = phi i64 [ %begin, %entry ], [ %row.next, %row.end ]
  %more = icmp slt i64 %out.row, %end
  br i1 %more, label %row, label %done
row:
{end.join(place.row for place in places)}
  br label %columns
columns:
  %g = phi i64 [ 0, %row ], [ %g.next, %block.end ]
{end.join(blocks)}
  %more.blocks = icmp slt i64 %g, %blocks
  br i1 %more.blocks, label %in.block, label %row.end
in.block:
{end.join([*(place.block for place in places), *tables])}
{one if use.tile_is_block else many}tile:
{end.join([*(place.tile for place in places), *body])}
  %t.next = add i64 %t, 1
  br label %{"block.end" if use.tile_is_block else "in.tiles"}
block.end:
  %g.next = add i64 %g, 1
  br label %columns
row.end:
{end.join(_results(use))}
  %row.next = add i64 %out.row, {use.together}
  br label %rows
done:
  ret i1 false
}}
{ENTRY}

declare i64 @llvm.umin.i64(i64, i64)
"""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a row of the weight is read: what is computed once for the row, for each block, and for each tile."""

    row: str
    block: str
    tile: str


def _row(words: torch.dtype, scales: Sequence[Port], use: RowsUse, r: int) -> _Place:
    # Beyond the last row it is read again, and its result is stored again.
    row = f"""  %out.row{r}.up = add i64 %out.row, {r}
  %out.row{r} = call i64 @llvm.umin.i64(i64 %out.row{r}.up, i64 %last.row)
  %n{r} = add i64 %out.row{r}, %first
  %tile.first{r} = mul i64 %n{r}, %tiles
  %scale.row{r} = udiv i64 %n{r}, %row_extent
  %scale.first{r} = mul i64 %scale.row{r}, %blocks"""
    block = [f"  %scale.index{r} = add i64 %scale.first{r}, %g"]
    for i, port in enumerate(scales):
        kind = element_type(port.dtype)
        index = f"%scale.index{r}" if port.kind is Kind.SCALE else "0"
        block.append(f"  %scale{r}.{i}.at = getelementptr {kind}, ptr %scales{i}.p, i64 {index}")
        block.append(f"  %scale{r}.{i} = load {kind}, ptr %scale{r}.{i}.at")
    tile = f"""  %tile.at{r} = add i64 %tile.first{r}, %t
  %words.index{r} = mul i64 %tile.at{r}, {use.lanes}
  %words.here{r} = getelementptr {element_type(words)}, ptr %words.p, i64 %words.index{r}
  %words{r} = load {vector_type(words, use.lanes)}, ptr %words.here{r}, align 1"""
    return _Place(row=row, block="\n".join(block), tile=tile)


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Values of the places of a tile, and what is computed once for a block."""

    places: Sequence[Lanes]
    once: list[str]


def _values(  # noqa: PLR0917  # a row of the weight
    writer: Writer,
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    words: torch.dtype,
    scales: Sequence[Port],
    use: RowsUse,
    r: int,
) -> _Values:
    shared = [Lanes(dtype=port.dtype, shape=(1,), registers=(f"%scale{r}.{i}",)) for i, port in enumerate(scales)]
    codes = Lanes(dtype=words, shape=(use.lanes,), registers=(f"%words{r}",))
    if use.table is not None:
        numbers = ", ".join(f"i32 {code}" for code in use.table)
        codes = Lanes(dtype=torch.int32, shape=(len(use.table),), registers=(f"<{numbers}>",))
    program = trace(function, [(part.dtype, part.shape) for part in (codes, *shared)])
    before = len(writer.lines)
    values, _ = writer.run(program, [codes, *shared])
    if use.table is None:
        return _Values(places=values, once=[])
    once = writer.lines[before:]
    del writer.lines[before:]
    return _Values(places=_looked_up(writer, values[0], words, use, r), once=once)


def _looked_up(writer: Writer, table: Lanes, words: torch.dtype, use: RowsUse, r: int) -> list[Lanes]:
    """Look up the values of each place by an instruction that reads the lowest four bits of an index."""
    (values,) = table.registers
    word, wide = vector_type(words, use.lanes), vector_type(torch.int32, use.lanes)
    index = f"%words{r}" if word == wide else writer.new(f"zext {word} %words{r} to {wide}")
    found = []
    for place in range(use.places):
        shifted = writer.new(f"lshr {wide} {index}, splat (i32 {place * use.bits})") if place else index
        value = writer.new(f"call {table.type} @{_LOOK_UP}({table.type} {values}, {wide} {shifted})")
        if use.dtype is torch.bfloat16:
            # The half of a pattern that its value is in.
            pattern = writer.new(f"bitcast {table.type} {value} to {wide}")
            upper = writer.new(f"lshr {wide} {pattern}, splat (i32 16)")
            value = writer.new(f"trunc {wide} {upper} to {vector_type(use.dtype, use.lanes)}")
        found.append(Lanes(dtype=use.dtype, shape=table.shape, registers=(value,)))
    return found


def _chains(use: RowsUse) -> int:
    """Sums of a row of x and one of the weight: its places take turns, so that none waits for another."""
    return min(use.places, max(_CHAINS // (use.rows * use.together), 1))


def _sums(use: RowsUse) -> list[str]:
    """Names of the sums."""
    if not use.rows:
        return []
    return [f"sum{m}.{r}.{c}" for m in range(use.rows) for r in range(use.together) for c in range(_chains(use))]


def _products(values: Sequence[Sequence[Lanes]], use: RowsUse) -> list[str]:
    """Multiply and add, with one rounding."""
    wide = vector_type(torch.float32, use.lanes)
    lines = [
        f"  %column = mul i64 %t, {use.lanes * use.places}",
        f"  %length = mul i64 %tiles, {use.lanes * use.places}",
    ]
    lines += [f"  %x{m}.row = mul i64 %length, {m}\n  %x{m}.at = add i64 %x{m}.row, %column" for m in range(use.rows)]
    chains = _chains(use)
    sums = {name: f"%{name}.{'block' if use.tile_is_block else 'tile'}" for name in _sums(use)}
    for p in range(use.places):
        for m in range(use.rows):
            lines += [
                f"  %x{m}.{p}.at = add i64 %x{m}.at, {p * use.lanes}",
                f"  %x{m}.{p}.here = getelementptr float, ptr %x.p, i64 %x{m}.{p}.at",
                f"  %x{m}.{p} = load {wide}, ptr %x{m}.{p}.here, align 4",
            ]
            for r, row in enumerate(values):
                name = f"sum{m}.{r}.{p % chains}"
                after = f"%{name}.{'next' if p + chains >= use.places else p}"
                terms = f"{wide} %x{m}.{p}, {wide} {row[p].registers[0]}, {wide} {sums[name]}"
                lines.append(f"  {after} = call {wide} @llvm.fma.v{use.lanes}f32({terms})")
                sums[name] = after
    return lines


def _stores(writer: Writer, values: Sequence[Lanes], use: RowsUse) -> list[str]:
    kind = values[0].type
    registers = _interleaved(writer, kind, use.lanes, [register for value in values for register in value.registers])
    lines = [
        f"  %column = mul i64 %t, {use.lanes * use.places}",
        "  %out.first = mul i64 %out.row, %out_step",
        "  %out.at0 = add i64 %out.first, %column",
    ]
    for p, register in enumerate(registers):
        lines += [
            f"  %out{p}.at = add i64 %out.at0, {p * use.lanes}",
            f"  %out{p}.here = getelementptr {element_type(use.dtype)}, ptr %out.p, i64 %out{p}.at",
            f"  store {kind} {register}, ptr %out{p}.here, align {use.dtype.itemsize}",
        ]
    return lines


def _interleaved(writer: Writer, kind: str, lanes: int, registers: Sequence[str]) -> Sequence[str]:
    """Bring elements to the order of columns: the first one of every register, the second of every one, and so on."""
    if len(registers) == 1:
        return registers
    halves = [_interleaved(writer, kind, lanes, registers[first::2]) for first in range(2)]
    found = []
    for even, odd in zip(*halves, strict=True):
        for start in (0, lanes // 2):
            order = ", ".join(f"i32 {start + i}, i32 {lanes + start + i}" for i in range(lanes // 2))
            found.append(writer.new(f"shufflevector {kind} {even}, {kind} {odd}, <{lanes} x i32> <{order}>"))
    return found


def _results(use: RowsUse) -> list[str]:
    """Add up the lanes of every sum, and store them."""
    wide = vector_type(torch.float32, use.lanes)
    lines = []
    for m in range(use.rows):
        lines.append(f"  %y{m}.first = mul i64 %out_step, {m}")
        for r in range(use.together):
            name = f"{m}.{r}"
            total = f"%sum{name}.0.block"
            for c in range(1, _chains(use)):
                lines.append(f"  %total{name}.{c} = fadd {wide} {total}, %sum{name}.{c}.block")
                total = f"%total{name}.{c}"
            lines += [
                f"  %y{name} = call reassoc float @llvm.vector.reduce.fadd.v{use.lanes}f32(float 0.0, {wide} {total})",
                f"  %y{name}.at = add i64 %y{m}.first, %out.row{r}",
                f"  %y{name}.here = getelementptr float, ptr %out.p, i64 %y{name}.at",
                f"  store float %y{name}, ptr %y{name}.here, align 4",
            ]
    return lines
