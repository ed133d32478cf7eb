"""Cases of `gptq_update`."""

from collections.abc import Iterator
from functools import partial

import torch

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.plan import Plan
from incref.formats import FORMATS, IntFormat, IntRange, ScaleArithmetic
from incref.numerics.granularity import PER_TOKEN, per_group

__all__ = ["gptq_update_cases"]

_SHAPES = ((1, 1), (3, 2), (5, 8), (4, 17), (7, 32), (2, 33))
_FORMATS = ("int4", "uint4", "int8", "uint2", "int3")


def gptq_update_cases(plan: Plan) -> Iterator[Case]:
    """Blocks of columns with random factors, groups within them, zero points, and a factor that spreads nothing."""
    if plan.level == 0:
        yield _case(plan, "int4", (5, 8), 0)
        yield _case(plan, "uint4", (5, 8), 1)
        yield _case(plan, "int4", (5, 8), 2, placement=Placement.REUSED)
        return
    for at in range(4 if plan.level == 1 else 20):
        for fmt in _FORMATS:
            for shape in (*_SHAPES, (0, 4), (4, 0)):
                yield _case(plan, fmt, shape, at)
    for placement in Placement:
        for at in range(2):
            yield _case(plan, "uint4", (6, 16), at, placement=placement)


def _case(plan: Plan, fmt: str, shape: tuple[int, int], at: int, *, placement: Placement = Placement.PLAIN) -> Case:
    return Case(
        op="gptq_update",
        generator="block",
        name=f"{fmt}/{shape[0]}x{shape[1]}/{at}/{plan.level}/{plan.seed}",
        level=plan.level,
        draw=partial(_draw, plan, fmt, shape, at),
        placement=placement,
    )


def _draw(plan: Plan, name: str, shape: tuple[int, int], at: int) -> Arguments:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    rows, columns = shape
    generator = plan.generator(1300 + 17 * rows + columns + 101 * at)
    w = torch.randn(rows, columns, generator=generator)
    # Below the diagonal stands what must not be read.
    upper = torch.randn(columns, columns, generator=generator) * 0.4
    upper.diagonal().abs_().add_(0.3)
    if at == 3:
        upper = torch.eye(columns) * 1.7
    granularity = per_group(8) if at % 2 else PER_TOKEN
    scale = torch.rand(granularity.scale_shape(shape), generator=generator) * 0.3 + 0.05
    found: dict[str, object] = {
        "w": w,
        "upper": upper,
        "scale": scale,
        "fmt": name,
        "granularity": granularity,
        "arithmetic": ScaleArithmetic.RECIPROCAL if at % 4 == 2 else ScaleArithmetic.DIVIDE,
        "int_range": IntRange.RESTRICTED if at % 4 == 1 else IntRange.FULL,
    }
    if not fmt.is_signed or at % 4 == 3:
        low, high = fmt.min_code, fmt.max_code
        found["zero_point"] = torch.randint(low, high + 1, scale.shape, generator=generator, dtype=torch.int32)
    return found
