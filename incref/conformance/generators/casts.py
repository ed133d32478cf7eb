"""Cases of `encode` and `decode`."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.plan import Plan
from incref.conformance.samples import NARROW, all_codes, all_patterns, boundaries, random_patterns
from incref.formats import CodebookFormat, ElementFormat, IntFormat, IntRange, NanRule, Overflow, Rounding
from incref.numerics.decode import require_exact

__all__ = ["decode_cases", "encode_cases"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_SWEEP_FORMATS = ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "float8_e8m0fnu")
_CHUNK = 1 << 22
"""Values that are encoded at once in a sweep: what fits the caches of most processors, several times."""
_RANDOM_BITS = {8: torch.uint8, 16: torch.int16, 32: torch.int32}


def encode_cases(plan: Plan) -> Iterator[Case]:
    """Directed values of every format; every pattern of 16 bits; every float32 value of some formats."""
    if plan.is_random_only:
        yield from _random(plan)
        return
    match plan.level:
        case 0:
            for fmt in NARROW:
                yield _case(fmt, 0, "boundaries", torch.float32)
            yield from _placements(0, (Placement.REUSED, Placement.TRANSPOSED))
        case 1:
            yield from _stochastic(plan)
            yield from _placements(1, tuple(Placement))
            yield from _shapes()
            yield from _directed()
            yield from _exhaustive()
            yield from _random(plan)
        case _:
            yield from _sweeps()
            yield from _random(plan)


def _case(
    fmt: ElementFormat,
    level: int,
    values: str,
    dtype: torch.dtype,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.MAX,
    int_range: IntRange = IntRange.FULL,
) -> Case:
    options = {"rounding": rounding, "overflow": overflow, "nan": nan, "int_range": int_range}

    def draw() -> Arguments:
        x = all_patterns(dtype) if values == "all" else boundaries(fmt, dtype)
        return {"x": x, "fmt": fmt.name, **options}

    named = (
        fmt.name,
        str(dtype).removeprefix("torch."),
        rounding.value,
        overflow.value,
        f"nan_{nan.value}",
        int_range.value,
    )
    return Case(op="encode", generator=values, name="/".join(named), level=level, draw=draw)


def _directed() -> Iterator[Case]:
    """Each destination value, each midpoint and their neighbours, under every mode, from every dtype."""
    for fmt in NARROW:
        for rounding in Rounding:
            if rounding is not Rounding.STOCHASTIC:
                for overflow in _overflows(fmt):
                    if (rounding, overflow) != (Rounding.NEAREST_EVEN, Overflow.SATURATE):
                        yield _case(fmt, 1, "boundaries", torch.float32, rounding=rounding, overflow=overflow)
        yield _case(fmt, 1, "boundaries", torch.float64)
        yield _case(fmt, 1, "boundaries", torch.float64, rounding=Rounding.NEAREST_AWAY, overflow=Overflow.NONSATURATE)
        yield _case(fmt, 1, "boundaries", torch.float32, nan=NanRule.ZERO)
        if isinstance(fmt, IntFormat) and fmt.is_signed:
            yield _case(fmt, 1, "boundaries", torch.float32, int_range=IntRange.RESTRICTED)


def _exhaustive() -> Iterator[Case]:
    """Every bfloat16 and every float16."""
    for fmt in NARROW:
        for dtype in (torch.bfloat16, torch.float16):
            for overflow in _overflows(fmt):
                yield _case(fmt, 1, "all", dtype, overflow=overflow)


def _overflows(fmt: ElementFormat) -> tuple[Overflow, ...]:
    """Every mode of formats that a standard or a vendor names; one of drafts and proposals, of which there are many."""
    return (Overflow.SATURATE,) if fmt.is_experimental else tuple(Overflow)


def _stochastic(plan: Plan) -> Iterator[Case]:
    """Random bits of every width; also none set and all set, which decide alone."""

    def draw(fmt: ElementFormat, width: int, bits: str) -> Arguments:
        x = boundaries(fmt, torch.float32)
        dtype = _RANDOM_BITS[width]
        if bits == "random":
            info = torch.iinfo(dtype)
            random = torch.randint(info.min, info.max + 1, x.shape, generator=plan.generator(width)).to(dtype)
        else:
            random = torch.full(x.shape, 0 if bits == "zeros" else -1, dtype=torch.int32).to(dtype)
        return {
            "x": x,
            "fmt": fmt.name,
            "rounding": Rounding.STOCHASTIC,
            "nan": NanRule.MAX,
            "random_bits": random,
        }

    for fmt in NARROW:
        if not isinstance(fmt, CodebookFormat) and not fmt.is_experimental:
            for width in _RANDOM_BITS:
                for bits in ("random", "zeros", "ones"):
                    seeded = f"/{plan.seed}" if bits == "random" else ""
                    yield Case(
                        op="encode",
                        generator="stochastic",
                        name=f"{fmt.name}/{width}/{bits}{seeded}",
                        level=1,
                        draw=partial(draw, fmt, width, bits),
                    )


def _placements(level: int, placements: tuple[Placement, ...]) -> Iterator[Case]:
    """Matrices of a few rows, in memory of every kind."""

    def draw(name: str) -> Arguments:
        fmt = next(fmt for fmt in NARROW if fmt.name == name)
        x = boundaries(fmt, torch.float32)
        return {"x": x[: x.numel() // 7 * 7].view(7, -1), "fmt": name, "nan": NanRule.MAX}

    for name in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "int8"):
        for placement in placements:
            yield Case(
                op="encode",
                generator="memory",
                name=f"{level}/{name}",
                level=level,
                draw=partial(draw, name),
                placement=placement,
            )


def _shapes() -> Iterator[Case]:
    """Nothing, one element without a dimension, and sizes around those that vectors and tiles have."""

    def draw(name: str, shape: tuple[int, ...]) -> Arguments:
        count = torch.Size(shape).numel()
        x = random_patterns(count, torch.bfloat16, seed=count).to(torch.float32).view(shape)
        return {"x": x, "fmt": name, "nan": NanRule.MAX}

    sizes = [n for power in (3, 5, 7, 10, 12) for n in ((1 << power) - 1, 1 << power, (1 << power) + 1)]
    shapes = [(), (0,), (3, 0), (1,), (1, 1, 1), (7, 13), (2, 3, 5), *((n,) for n in sizes)]
    for name in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "int4"):
        for shape in shapes:
            yield Case(
                op="encode",
                generator="shape",
                name=f"{name}/{'x'.join(map(str, shape)) or 'scalar'}",
                level=1,
                draw=partial(draw, name, shape),
            )


def _random(plan: Plan) -> Iterator[Case]:
    """Patterns of every exponent, NaN and Inf among them."""

    def draw(fmt: ElementFormat, dtype: torch.dtype, count: int) -> Arguments:
        x = random_patterns(count, dtype, seed=plan.seed * 31 + fmt.num_codes)
        return {"x": x, "fmt": fmt.name, "nan": NanRule.MAX}

    count = 1 << (12 if plan.level == 1 else 20)
    for fmt in NARROW:
        for dtype in (torch.float32, torch.float64):
            name = f"{fmt.name}/{str(dtype).removeprefix('torch.')}/{count}/{plan.seed}"
            yield Case(
                op="encode", generator="random", name=name, level=plan.level, draw=partial(draw, fmt, dtype, count)
            )


def _sweeps() -> Iterator[Case]:
    """All 2**32 float32 values, in chunks."""

    def draw(name: str, first: int) -> Arguments:
        start = first - (1 << 32) if first >= 1 << 31 else first
        x = torch.arange(start, start + _CHUNK, dtype=torch.int32).view(torch.float32)
        return {"x": x, "fmt": name, "nan": NanRule.MAX}

    for name in _SWEEP_FORMATS:
        for first in range(0, 1 << 32, _CHUNK):
            yield Case(
                op="encode",
                generator="sweep",
                name=f"{name}/{first:#010x}+{_CHUNK:#x}",
                level=2,
                draw=partial(draw, name, first),
            )


def decode_cases(plan: Plan) -> Iterator[Case]:
    """Every code of every format, to every dtype that holds all values."""
    if plan.is_random_only or plan.level == 2:
        return
    for fmt in NARROW:
        for dtype in (torch.float32,) if plan.level == 0 else (torch.bfloat16, torch.float16, torch.float64):
            if _holds(fmt, dtype):
                name = f"{fmt.name}/{str(dtype).removeprefix('torch.')}"
                yield Case(
                    op="decode", generator="all", name=name, level=plan.level, draw=partial(_codes_of, fmt, dtype)
                )
    placements = (Placement.REUSED,) if plan.level == 0 else tuple(Placement)
    for name in ("float8_e4m3fn", "float8_e5m2", "int8"):
        fmt = next(fmt for fmt in NARROW if fmt.name == name)
        for placement in placements:
            yield Case(
                op="decode",
                generator="memory",
                name=f"{plan.level}/{name}",
                level=plan.level,
                draw=partial(_codes_of, fmt, torch.float32, (16, -1)),
                placement=placement,
            )
        if plan.level:
            for shape in ((), (0,), (1,), (5, 0), (17,), (2, 3, 5)):
                yield Case(
                    op="decode",
                    generator="shape",
                    name=f"{name}/{'x'.join(map(str, shape)) or 'scalar'}",
                    level=1,
                    draw=partial(_some_codes, fmt, shape),
                )


def _codes_of(fmt: ElementFormat, dtype: torch.dtype, shape: tuple[int, ...] = (-1,)) -> Arguments:
    return {"codes": all_codes(fmt).view(shape), "fmt": fmt.name, "dtype": dtype}


def _some_codes(fmt: ElementFormat, shape: tuple[int, ...]) -> Arguments:
    codes: Tensor = all_codes(fmt)[3 : 3 + torch.Size(shape).numel()].view(shape)
    return {"codes": codes, "fmt": fmt.name, "dtype": torch.float32}


def _holds(fmt: ElementFormat, dtype: torch.dtype) -> bool:
    try:
        require_exact(fmt, dtype)
    except ValueError:
        return False
    return True
