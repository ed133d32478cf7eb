"""Cases of `compute_scale`."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.generators.rows import hard_rows
from incref.conformance.plan import Plan
from incref.formats import IntFormat, ScaleRule, SymmetricScale, get_format
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_channel, per_group
from incref.ops.encode import get_element_format

__all__ = ["GRANULARITIES", "compute_scale_cases"]

GRANULARITIES = {
    "tensor": PER_TENSOR,
    "token": PER_TOKEN,
    "channel": per_channel(),
    "column": per_channel(-1),
    "group8": per_group(8),
    "group8_down": per_group(8, -2),
    "block4x8": per_block((4, 8)),
}
"""What shares a scale, by a short name."""

_FORMATS = (
    "int8",
    "uint8",
    "int4",
    "uint4",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float4_e2m1fn",
)


def compute_scale_cases(plan: Plan) -> Iterator[Case]:
    """Rows at every threshold, of every granularity and rule, with ragged ends."""
    salt = 100 + plan.level
    match plan.level:
        case 0:
            for fmt in ("int8", "float8_e4m3fn"):
                yield _case(plan, salt, fmt)
                yield _case(plan, salt, fmt, granularity="token", rule=ScaleRule.FLOOR)
            yield _case(plan, salt, "uint4", symmetric=False)
            yield _case(plan, salt, "int8", placement=Placement.REUSED)
        case 1:
            yield from _covering(plan, salt)
        case _:
            for repeat in range(4):
                yield from _covering(plan, salt + 1000 * (repeat + 1))


def _covering(plan: Plan, salt: int) -> Iterator[Case]:
    for i, name in enumerate(_FORMATS):
        for j, rule in enumerate(ScaleRule):
            for k in range(3):
                yield from _kinds(plan, salt, name, rule, i + j + k)
    for placement in Placement:
        for rule in (ScaleRule.DIVIDE, ScaleRule.CEIL):
            yield _case(plan, salt, "float8_e4m3fn", rule=rule, placement=placement)
        yield _case(plan, salt, "uint8", granularity="token", symmetric=False, placement=placement)
    for shape in ((), (0,), (1,), (3, 0), (5, 1), (2, 3, 17), (1, 8), (1, 7), (1, 9)):
        for granularity in ("tensor", "token", "group8"):
            if shape or granularity == "tensor":
                yield _shaped(plan, salt, shape, granularity)


def _kinds(plan: Plan, salt: int, name: str, rule: ScaleRule, at: int) -> Iterator[Case]:
    """One combination of dtype and granularity, under every kind of scale that the format has."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    fmt, names = get_format(name), tuple(GRANULARITIES)
    is_integer = isinstance(fmt, IntFormat)
    is_signed = not isinstance(fmt, IntFormat) or fmt.is_signed
    made = partial(
        _case, plan, salt, name, dtype=dtypes[at % 4], granularity=names[(3 * at + at // 4) % len(names)], rule=rule
    )
    if is_signed:
        yield made()
    if is_integer and not rule.is_power_of_two:
        yield made(symmetric=False)
        for kind in (SymmetricScale.SPAN, SymmetricScale.EXTREME) if is_signed else ():
            yield made(kind=kind)


def _case(
    plan: Plan,
    salt: int,
    fmt: str,
    *,
    dtype: torch.dtype = torch.float32,
    granularity: str = "group8",
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    kind: SymmetricScale = SymmetricScale.QMAX,
    placement: Placement = Placement.PLAIN,
) -> Case:
    # 21 is no multiple of a group of 8, and 8-row blocks do not divide the number of rows either.
    width = 21 if granularity in ("group8", "block4x8", "group8_down") else 19

    def draw() -> Arguments:
        x = _values(plan.generator(salt), fmt, dtype, width, granularity)
        return {
            "x": x,
            "fmt": fmt,
            "granularity": GRANULARITIES[granularity],
            "rule": rule,
            "symmetric": symmetric,
            "symmetric_scale": kind,
        }

    how = kind.value if symmetric else "asymmetric"
    name = f"{fmt}/{str(dtype).removeprefix('torch.')}/{granularity}/{rule.value}/{how}/{salt}/{plan.seed}"
    return Case(op="compute_scale", generator="rows", name=name, level=plan.level, draw=draw, placement=placement)


def _values(generator: torch.Generator, fmt: str, dtype: torch.dtype, width: int, granularity: str) -> Tensor:
    rows = hard_rows(get_element_format(fmt), dtype, width, generator, has_specials=granularity != "tensor")
    if granularity == "tensor":
        # One scale for all: one threshold at a time, below it what does not reach it.
        at = int(torch.randint(0, rows.shape[0], (), generator=generator))
        return rows[at : at + 1]
    return rows


def _shaped(plan: Plan, salt: int, shape: tuple[int, ...], granularity: str) -> Case:
    name = f"{'x'.join(map(str, shape)) or 'scalar'}/{granularity}/{salt}/{plan.seed}"
    return Case(
        op="compute_scale",
        generator="shape",
        name=name,
        level=plan.level,
        draw=partial(_noise, plan, salt, shape, granularity),
    )


def _noise(plan: Plan, salt: int, shape: tuple[int, ...], granularity: str) -> Arguments:
    x = torch.randn(shape, generator=plan.generator(salt))
    return {"x": x, "fmt": "int8", "granularity": GRANULARITIES[granularity]}
