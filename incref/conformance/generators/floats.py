"""Cases of `quantize_float` and `dequantize_float`."""

from collections.abc import Iterator

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
from incref.formats import NanRule, Overflow, QuotientDtype, Rounding, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TOKEN
from incref.ops.encode import get_element_format

__all__ = ["dequantize_float_cases", "quantize_float_cases"]

_FORMATS = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e4m3",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
)


def quantize_float_cases(plan: Plan) -> Iterator[Case]:
    """Ties and their neighbours by given scales; rows at thresholds by scales that are computed."""
    salt = 300 + plan.level
    match plan.level:
        case 0:
            for fmt in ("float8_e4m3fn", "float8_e5m2"):
                yield _ties(plan, fmt, torch.float32)
                yield _rows(plan, salt, fmt, torch.float32, "group8")
            yield _rows(plan, salt, "float8_e4m3fn", torch.float32, "group8", placement=Placement.REUSED)
        case 1:
            yield from _directed(plan)
            yield from _covering(plan, salt)
        case _:
            for repeat in range(4):
                yield from _covering(plan, salt + 1000 * (repeat + 1))


def _directed(plan: Plan) -> Iterator[Case]:
    for fmt in _FORMATS:
        for overflow in Overflow:
            for dtype in (torch.float32, torch.bfloat16, torch.float64):
                yield _ties(plan, fmt, dtype, overflow=overflow)
        for rounding in Rounding:
            yield _ties(plan, fmt, torch.float32, rounding=rounding)
        yield _ties(plan, fmt, torch.float32, arithmetic=ScaleArithmetic.RECIPROCAL)
        for dtype in (torch.bfloat16, torch.float16):
            for arithmetic in ScaleArithmetic:
                yield _ties(plan, fmt, dtype, arithmetic=arithmetic, quotient=QuotientDtype.INPUT)
    for placement in Placement:
        yield _ties(plan, "float8_e4m3fn", torch.float32, placement=placement)


def _ties(
    plan: Plan,
    fmt: str,
    dtype: torch.dtype,
    *,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> dict[str, object]:
        x, scale = ties_and_specials(get_element_format(fmt), dtype)
        found: dict[str, object] = {
            "x": x,
            "fmt": fmt,
            "scale": scale,
            "granularity": PER_TOKEN,
            "arithmetic": arithmetic,
            "rounding": rounding,
            "overflow": overflow,
            "nan": NanRule.MAX,
        }
        if quotient is not QuotientDtype.COMPUTE:
            found["quotient"] = quotient
        return found

    name = "/".join((fmt, dtype_name(dtype), arithmetic.value, rounding.value, overflow.value))
    if quotient is not QuotientDtype.COMPUTE:
        name += f"/{quotient.value}"
    return tie_case(plan, "quantize_float", name, rounding, draw, placement)


def _covering(plan: Plan, salt: int) -> Iterator[Case]:
    dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    names = [name for name in GRANULARITIES if name != "tensor"]
    for i, fmt in enumerate(_FORMATS):
        for j, rule in enumerate(ScaleRule):
            for k, arithmetic in enumerate(ScaleArithmetic):
                at = i + 3 * j + 5 * k
                yield _rows(
                    plan, salt + at, fmt, dtypes[at % 4], names[at % len(names)], rule=rule, arithmetic=arithmetic
                )
    for placement in Placement:
        yield _rows(plan, salt, "float8_e4m3fn", torch.float32, "group8", placement=placement)
    for shape in ((0,), (1,), (3, 0), (2, 3, 17), (1, 8), (1, 7), (1, 9)):
        yield _shaped(plan, salt, shape)


def _rows(
    plan: Plan,
    salt: int,
    fmt: str,
    dtype: torch.dtype,
    granularity: str,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        return {
            "x": hard_rows(get_element_format(fmt), dtype, 21, plan.generator(salt)),
            "fmt": fmt,
            "granularity": GRANULARITIES[granularity],
            "rule": rule,
            "arithmetic": arithmetic,
            "nan": NanRule.MAX,
        }

    parts = (fmt, dtype_name(dtype), granularity, rule.value, arithmetic.value)
    name = f"{'/'.join(parts)}/{salt}/{plan.seed}"
    return Case(op="quantize_float", generator="rows", name=name, level=plan.level, draw=draw, placement=placement)


def _shaped(plan: Plan, salt: int, shape: tuple[int, ...]) -> Case:
    def draw() -> Arguments:
        x = torch.randn(shape, generator=plan.generator(salt))
        return {"x": x, "fmt": "float8_e4m3fn", "granularity": GRANULARITIES["group8"]}

    name = f"{'x'.join(map(str, shape))}/{salt}/{plan.seed}"
    return Case(op="quantize_float", generator="shape", name=name, level=plan.level, draw=draw)


def dequantize_float_cases(plan: Plan) -> Iterator[Case]:
    """Every code under scales of many magnitudes, to every dtype."""
    if plan.level == 0:
        yield _back(plan, "float8_e4m3fn", torch.float32, torch.float32, "token")
        yield _back(plan, "float8_e5m2", torch.float32, torch.float32, "group8", placement=Placement.REUSED)
        return
    scales = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8)
    results = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    for i, fmt in enumerate(_FORMATS):
        for j, scale in enumerate(scales):
            for k, granularity in enumerate(("token", "group8", "block4x8")):
                yield _back(plan, fmt, scale, results[(i + j + k) % len(results)], granularity)
    for placement in Placement:
        yield _back(plan, "float8_e4m3fn", torch.float32, torch.float32, "group8", placement=placement)
    for shape in ((0,), (1,), (3, 0), (2, 3, 17)):
        yield _back_shaped(plan, shape)


def _back(
    plan: Plan,
    fmt: str,
    scale_dtype: torch.dtype,
    dtype: torch.dtype,
    granularity: str,
    *,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        generator = plan.generator(500 + plan.level)
        values = codes_in_rows(get_element_format(fmt), generator)
        shape = GRANULARITIES[granularity].scale_shape(values.shape)
        return {
            "codes": values,
            "scale": scales_of_every_size(shape, scale_dtype, generator),
            "fmt": fmt,
            "granularity": GRANULARITIES[granularity],
            "dtype": dtype,
        }

    words = [fmt, dtype_name(scale_dtype), dtype_name(dtype), granularity]
    name = f"{'/'.join(words)}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_float", generator="codes", name=name, level=plan.level, draw=draw, placement=placement)


def _back_shaped(plan: Plan, shape: tuple[int, ...]) -> Case:
    def draw() -> Arguments:
        codes = torch.randint(0, 120, shape, generator=plan.generator(5)).to(torch.uint8)
        granularity = GRANULARITIES["group8"]
        scale = torch.full(granularity.scale_shape(shape), 0.3)
        return {"codes": codes, "scale": scale, "fmt": "float8_e4m3fn", "granularity": granularity}

    name = f"{'x'.join(map(str, shape))}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_float", generator="shape", name=name, level=plan.level, draw=draw)
