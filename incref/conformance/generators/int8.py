"""Cases of `int8_matmul`."""

from collections.abc import Iterator
from functools import partial

import torch

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.generators.product_case import HALVES, LENGTHS, plain_scales, product_case
from incref.conformance.plan import Plan
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN

__all__ = ["int8_matmul_cases"]

_LONG = 100
"""From this number on, cases of integers have long sums of one sign."""


def int8_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Full-range codes, sums that leave 16 and 24 bits, zero points, scales of every granularity, and biases."""
    if plan.level == 0:
        for kind in ("plain", "scaled", "extreme"):
            yield product_case(plan, "int8_matmul", kind, "5x7x33", partial(_int8, plan, kind, (5, 7, 33), 0))
        draw = partial(_int8, plan, "scaled", (5, 7, 33), 1)
        yield product_case(plan, "int8_matmul", "memory", "5x7x33", draw, placement=Placement.REUSED)
        return
    shapes = [(m, n, k) for k in LENGTHS for m, n in ((1, 1), (3, 16), (17, 5))]
    shapes += [(0, 3, 8), (3, 0, 8), (3, 4, 0), (2, 2, 1025)]
    for i, shape in enumerate(shapes):
        for kind in ("plain", "scaled", "extreme"):
            for at in range(2 if plan.level == 1 else 12):
                name = f"{'x'.join(map(str, shape))}/{at}"
                yield product_case(plan, "int8_matmul", kind, name, partial(_int8, plan, kind, shape, i + 5 * at))
    for at in range(_LONG, _LONG + 12):
        yield product_case(plan, "int8_matmul", "long", f"{at}", partial(_int8, plan, "scaled", (4, 5, 2051), at))
    for placement in Placement:
        for at in range(4):
            draw = partial(_int8, plan, "scaled", (5, 16, 64), at)
            yield product_case(plan, "int8_matmul", "memory", f"{at}", draw, placement=placement)


def _int8(plan: Plan, kind: str, shape: tuple[int, int, int], at: int) -> Arguments:
    m, n, k = shape
    generator = plan.generator(900 + 31 * m + 17 * n + k + 7 * at)
    is_unsigned = at % 3 == 1
    low, high = (0, 256) if is_unsigned else (-128, 128)
    x = torch.randint(low, high, (m, k), generator=generator)
    w = torch.randint(-128, 128, (n, k), generator=generator)
    if at >= _LONG:
        # Of one sign and large, so that sums have more bits than float32.
        x = torch.randint(high - 56, high, (m, k), generator=generator)
        w = torch.randint(-128, -99, (n, k), generator=generator)
    if kind == "extreme":
        # All of one sign, so that sums grow as fast as they can.
        x, w = torch.full((m, k), high - 1 if is_unsigned else low), torch.full((n, k), -128)
    found: dict[str, object] = {"x": x.to(torch.uint8 if is_unsigned else torch.int8), "w": w.to(torch.int8)}
    if kind != "scaled":
        if at % 2:
            found["x_zero_point"] = torch.tensor((low + high) // 2 + 3, dtype=torch.int32)
            found["w_zero_point"] = torch.tensor(-5, dtype=torch.int32)
        return found
    x_granularity, w_granularity = ((PER_TENSOR, PER_TOKEN)[bit] for bit in (at % 2, at // 2 % 2))
    orders = (ScaleOrder.X_THEN_W, ScaleOrder.PRODUCT, ScaleOrder.W_THEN_X, ScaleOrder.EXACT)
    found |= {
        "x_scale": plain_scales(x_granularity.scale_shape((m, k)), generator),
        "w_scale": plain_scales(w_granularity.scale_shape((n, k)), generator),
        "x_granularity": x_granularity,
        "w_granularity": w_granularity,
        "order": orders[at % 4],
        "dtype": HALVES[at % 3],
    }
    if at % 3:
        shape_of_zero = x_granularity.scale_shape((m, k))
        found["x_zero_point"] = torch.randint(low, high, shape_of_zero, generator=generator, dtype=torch.int32)
    if at % 4 >= 2:
        shape_of_zero = w_granularity.scale_shape((n, k))
        found["w_zero_point"] = torch.randint(-128, 128, shape_of_zero, generator=generator, dtype=torch.int32)
    if at % 2 == 0:
        found["bias"] = torch.randn(n, generator=generator) * 100
    return found
