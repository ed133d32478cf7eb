"""Cases of `pack` and `unpack`."""

from collections.abc import Iterator

import torch

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.plan import Plan
from incref.conformance.samples import all_codes
from incref.formats import CodebookFormat, ElementFormat, FloatFormat, IntFormat
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.packing import word_dtype
from incref.ops.encode import get_element_format

__all__ = ["pack_cases", "unpack_cases"]

_INTEGERS = ("uint1", "uint2", "int2", "uint3", "int3", "uint4", "int4", "int8", "uint8")
_FORMATS = (*_INTEGERS, "float4_e2m1fn", "float6_e2m3fn")


def _pairs(level: int) -> Iterator[tuple[ElementFormat, PackLayout]]:
    names = ("uint4", "int4", "float6_e2m3fn") if level == 0 else _FORMATS
    for name in names:
        fmt = get_element_format(name)
        for layout in PackLayout:
            facts = LAYOUTS[layout]
            is_unsigned = isinstance(fmt, IntFormat) and not fmt.is_signed
            if fmt.bits in facts.code_bits and (not facts.offset or is_unsigned):
                yield fmt, layout


def _lengths(fmt: ElementFormat, layout: PackLayout, level: int) -> tuple[int, ...]:
    """Whole units of the pattern, one code more and one less, and less than a word."""
    unit, _ = LAYOUTS[layout].unit(fmt.bits)
    if level == 0:
        return (3 * unit, 2 * unit + 1)
    return tuple(sorted({0, 1, max(unit - 1, 1), unit, unit + 1, 2 * unit - 1, 3 * unit, 5 * unit + 3}))


def _codes(fmt: ElementFormat, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    assert isinstance(fmt, FloatFormat | IntFormat | CodebookFormat)
    codes = all_codes(fmt)
    return codes[torch.randint(0, codes.numel(), shape, generator=generator)]


def pack_cases(plan: Plan) -> Iterator[Case]:
    """Random codes of every format, in every layout, around whole words, along every axis."""
    yield from _cases(plan, is_packing=True)


def unpack_cases(plan: Plan) -> Iterator[Case]:
    """Random words, unused bits of them set too, for every format and layout, along every axis."""
    yield from _cases(plan, is_packing=False)


def _cases(plan: Plan, *, is_packing: bool) -> Iterator[Case]:
    if plan.level == 2:
        return
    for fmt, layout in _pairs(plan.level):
        for length in _lengths(fmt, layout, plan.level):
            for axis in (-1, 0) if plan.level else (0,):
                yield _case(plan, fmt, layout, length, axis, is_packing=is_packing)
    for placement in Placement if plan.level else (Placement.REUSED,):
        for axis in (-1, 0):
            fmt = get_element_format("int4" if axis else "uint4")
            yield _case(plan, fmt, PackLayout.INT32, 19, axis, is_packing=is_packing, placement=placement)
            six = get_element_format("float6_e3m2fn")
            yield _case(plan, six, PackLayout.DENSE, 19, axis, is_packing=is_packing, placement=placement)


def _case(
    plan: Plan,
    fmt: ElementFormat,
    layout: PackLayout,
    length: int,
    axis: int,
    *,
    is_packing: bool,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        generator = plan.generator(800 + length)
        extent = length if is_packing else LAYOUTS[layout].num_words(fmt.bits, length)
        shape = (extent, 5) if axis == 0 else (5, extent)
        if is_packing:
            return {"codes": _codes(fmt, shape, generator), "fmt": fmt.name, "layout": layout, "axis": axis}
        words = torch.randint(-(1 << 31), 1 << 31, shape, generator=generator)
        return {
            "packed": words.to(word_dtype(LAYOUTS[layout])),
            "fmt": fmt.name,
            "layout": layout,
            "axis": axis,
            "length": length,
        }

    op = "pack" if is_packing else "unpack"
    name = f"{fmt.name}/{layout.value}/{length}/axis{axis}/{plan.level}/{plan.seed}"
    return Case(op=op, generator="words", name=name, level=plan.level, draw=draw, placement=placement)
