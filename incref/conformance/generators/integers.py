"""Cases of `quantize_affine` and `dequantize_affine`."""

from collections.abc import Iterator
from functools import partial

import torch

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.generators.rows import hard_rows
from incref.conformance.generators.scaled import (
    codes_in_rows,
    dtype_name,
    scales_of_every_size,
    tie_case,
    ties_and_specials,
)
from incref.conformance.generators.scales import GRANULARITIES
from incref.conformance.plan import Plan
from incref.formats import (
    FORMATS,
    IntFormat,
    IntRange,
    NanRule,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.granularity import PER_TOKEN

__all__ = ["dequantize_affine_cases", "quantize_affine_cases"]

_FORMATS = ("int8", "uint8", "int4", "uint4", "int3", "int2", "uint2", "uint1")


def _int(name: str) -> IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    return fmt


def quantize_affine_cases(plan: Plan) -> Iterator[Case]:
    """Ties and their neighbours by given scales and zero points; rows at thresholds by scales that are computed."""
    salt = 200 + plan.level
    match plan.level:
        case 0:
            for fmt in ("int8", "uint4"):
                yield _ties(plan, fmt, torch.float32)
                yield _rows(plan, salt, fmt, torch.float32, "group8", symmetric=fmt == "int8")
            yield _rows(plan, salt, "int8", torch.float32, "group8", placement=Placement.REUSED)
        case 1:
            yield from _directed(plan)
            yield from _covering(plan, salt)
        case _:
            for repeat in range(4):
                yield from _covering(plan, salt + 1000 * (repeat + 1))


def _directed(plan: Plan) -> Iterator[Case]:
    for fmt in _FORMATS:
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            for arithmetic in ScaleArithmetic:
                yield _ties(plan, fmt, dtype, arithmetic=arithmetic)
        for rounding in Rounding:
            yield _ties(plan, fmt, torch.float32, rounding=rounding)
        if _int(fmt).is_signed:
            yield _ties(plan, fmt, torch.float32, int_range=IntRange.RESTRICTED)
        for placement in Placement:
            yield _ties(plan, fmt, torch.float32, placement=placement)


def _ties(
    plan: Plan,
    fmt: str,
    dtype: torch.dtype,
    *,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    int_range: IntRange = IntRange.FULL,
    placement: Placement = Placement.PLAIN,
) -> Case:
    """`ties_and_specials` with a zero point a row."""

    def draw() -> dict[str, object]:
        target = _int(fmt)
        x, scale = ties_and_specials(target, dtype)
        middle = (target.min_code + target.max_code) // 2
        zero = torch.tensor([0, middle, target.min_code, target.max_code, middle + 1] * 2, dtype=torch.int32)
        return {
            "x": x,
            "fmt": fmt,
            "scale": scale,
            "zero_point": zero.clamp(target.min_code, target.max_code).unsqueeze(1),
            "granularity": PER_TOKEN,
            "arithmetic": arithmetic,
            "rounding": rounding,
            "int_range": int_range,
            "nan": NanRule.ZERO,
        }

    name = "/".join((fmt, dtype_name(dtype), arithmetic.value, rounding.value, int_range.value))
    return tie_case(plan, "quantize_affine", name, rounding, draw, placement)


def _covering(plan: Plan, salt: int) -> Iterator[Case]:
    dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    names = [name for name in GRANULARITIES if name != "tensor"]
    for i, fmt in enumerate(_FORMATS):
        target = _int(fmt)
        for j, arithmetic in enumerate(ScaleArithmetic):
            for k, rule in enumerate((ScaleRule.DIVIDE, ScaleRule.RECIPROCAL)):
                for repeat in range(2):
                    at = i + 3 * j + 5 * k + repeat
                    dtype, granularity = dtypes[(at + repeat) % 4], names[at % len(names)]
                    made = partial(_rows, plan, salt + at, fmt, dtype, granularity, rule=rule, arithmetic=arithmetic)
                    yield made(symmetric=False)
                    if target.is_signed:
                        yield made()
                        yield made(kind=SymmetricScale.SPAN)
                        yield made(kind=SymmetricScale.EXTREME)
                        yield made(int_range=IntRange.RESTRICTED)
    yield _rows(plan, salt, "int8", torch.float32, "token", rule=ScaleRule.CEIL)
    yield _rows(plan, salt, "int4", torch.float32, "group8", rule=ScaleRule.FLOOR)
    for placement in Placement:
        yield _rows(plan, salt, "uint4", torch.float32, "group8", symmetric=False, placement=placement)
        yield _rows(plan, salt, "int8", torch.float32, "block4x8", placement=placement)
    for shape in ((0,), (1,), (3, 0), (5, 1), (2, 3, 17), (1, 8), (1, 7), (1, 9)):
        yield _shaped(plan, salt, shape)


def _rows(
    plan: Plan,
    salt: int,
    fmt: str,
    dtype: torch.dtype,
    granularity: str,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    kind: SymmetricScale = SymmetricScale.QMAX,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        return {
            "x": hard_rows(_int(fmt), dtype, 21, plan.generator(salt)),
            "fmt": fmt,
            "granularity": GRANULARITIES[granularity],
            "rule": rule,
            "symmetric": symmetric,
            "symmetric_scale": kind,
            "int_range": int_range,
            "arithmetic": arithmetic,
            "nan": NanRule.ZERO,
        }

    how = kind.value if symmetric else "asymmetric"
    parts = (fmt, dtype_name(dtype), granularity, rule.value, arithmetic.value, how, int_range.value)
    return Case(
        op="quantize_affine",
        generator="rows",
        name=f"{'/'.join(parts)}/{salt}/{plan.seed}",
        level=plan.level,
        draw=draw,
        placement=placement,
    )


def _shaped(plan: Plan, salt: int, shape: tuple[int, ...]) -> Case:
    def draw() -> Arguments:
        x = torch.randn(shape, generator=plan.generator(salt))
        return {"x": x, "fmt": "int4", "granularity": GRANULARITIES["group8"], "symmetric": False}

    name = f"{'x'.join(map(str, shape))}/{salt}/{plan.seed}"
    return Case(op="quantize_affine", generator="shape", name=name, level=plan.level, draw=draw)


def dequantize_affine_cases(plan: Plan) -> Iterator[Case]:
    """Every code under scales of many magnitudes, with zero points, to every dtype."""
    if plan.level == 0:
        yield _back(plan, "int8", torch.float32, torch.float32, "token", has_zero=False)
        yield _back(plan, "uint4", torch.float32, torch.float32, "group8", has_zero=True)
        yield _back(plan, "int8", torch.float32, torch.float32, "group8", has_zero=True, placement=Placement.REUSED)
        return
    scales = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8)
    results = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    for i, fmt in enumerate(_FORMATS):
        for j, scale in enumerate(scales):
            for k, granularity in enumerate(("token", "group8", "block4x8", "column")):
                result = results[(i + j + k) % len(results)]
                yield _back(plan, fmt, scale, result, granularity, has_zero=(i + j + k) % 3 > 0)
    for fmt in ("int8", "uint4"):
        # One scale of all: kernels may load it once.
        yield _back(plan, fmt, torch.float32, torch.float32, "tensor", has_zero=True)
    for placement in Placement:
        yield _back(plan, "uint4", torch.float32, torch.float32, "group8", has_zero=True, placement=placement)
    for shape in ((0,), (1,), (3, 0), (2, 3, 17)):
        yield _back_shaped(plan, shape)


def _back(
    plan: Plan,
    fmt: str,
    scale_dtype: torch.dtype,
    dtype: torch.dtype,
    granularity: str,
    *,
    has_zero: bool,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        generator = plan.generator(400 + plan.level)
        values = codes_in_rows(_int(fmt), generator)
        shape = GRANULARITIES[granularity].scale_shape(values.shape)
        zero = None
        if has_zero:
            low, high = _int(fmt).min_code, _int(fmt).max_code
            zero = torch.randint(low, high + 1, shape, generator=generator, dtype=torch.int32)
        found: dict[str, object] = {
            "codes": values,
            "scale": scales_of_every_size(shape, scale_dtype, generator),
            "granularity": GRANULARITIES[granularity],
            "dtype": dtype,
        }
        return found if zero is None else {**found, "zero_point": zero}

    words = [fmt, dtype_name(scale_dtype), dtype_name(dtype), granularity]
    name = f"{'/'.join(words)}/{'zero' if has_zero else 'no_zero'}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_affine", generator="codes", name=name, level=plan.level, draw=draw, placement=placement)


def _back_shaped(plan: Plan, shape: tuple[int, ...]) -> Case:
    def draw() -> Arguments:
        codes = torch.randint(-8, 8, shape, generator=plan.generator(5)).to(torch.int8)
        granularity = GRANULARITIES["group8"]
        return {"codes": codes, "scale": torch.full(granularity.scale_shape(shape), 0.3), "granularity": granularity}

    name = f"{'x'.join(map(str, shape))}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_affine", generator="shape", name=name, level=plan.level, draw=draw)
