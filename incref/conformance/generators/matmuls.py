"""Cases of matrix products in floating point: probes, bounded products, relations between products."""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor

from incref.conformance.case import Arguments, Bounded, Case, Placement
from incref.conformance.generators.factors import Draw, draw_fp8, draw_mx, draw_weight_only
from incref.conformance.generators.half_ulps import half_ulps
from incref.conformance.generators.lefts import PROBES
from incref.conformance.generators.matmul_bounds import ALLOWED
from incref.conformance.generators.product_case import LENGTHS, product_case
from incref.conformance.generators.relations import related_products
from incref.conformance.plan import Plan

__all__ = ["fp8_matmul_cases", "mx_matmul_cases", "weight_only_matmul_cases"]

_WEIGHTS = (
    "uint4/group32/zero",
    "int8/row",
    "int4/group32",
    "uint4/g_idx/zero",
    "uint8/row/zero",
    "float8_e4m3fn/row",
    "mxfp4/block",
    "nf4/group32",
    "int8/block",
)


_FP8 = (
    "float8_e4m3fn/tensor",
    "float8_e5m2/row",
    "float8_e4m3fn/none",
    "float8_e4m3fn/group32",
    "float8_e4m3fnuz/row",
    "float8_e4m3fn/block",
)


_UNGROUPED = {"weight_only_matmul": "int8/row", "fp8_matmul": "float8_e4m3fn/tensor", "mx_matmul": "mxfp4"}
"""A kind of each whose arguments stay right without rows, columns, or both."""


_MX = ("mxfp8_e4m3", "mxfp4", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxint8")


def weight_only_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of weights in integers, floats and blocks, with groups, zero points and g_idx."""
    yield from _products(plan, "weight_only_matmul", draw_weight_only, _WEIGHTS)


def fp8_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of scaled 8-bit floats."""
    yield from _products(plan, "fp8_matmul", draw_fp8, _FP8)


def mx_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of blocks."""
    yield from _products(plan, "mx_matmul", draw_mx, _MX)


def _products(plan: Plan, op: str, draw: Draw, kinds: Sequence[str]) -> Iterator[Case]:
    if plan.level == 0:
        for kind in kinds[:2]:
            for probe in ("identity1", "signs_all", "ladder"):
                yield product_case(plan, op, probe, f"{kind}/33", partial(draw, plan, kind, probe, 33))
        yield _bounded(plan, op, draw, kinds[0], 96)
        memory = partial(draw, plan, kinds[0], "identity1", 33)
        yield product_case(plan, op, "memory", kinds[0], memory, placement=Placement.REUSED)
        return
    yield from _probes(plan, op, draw, kinds)
    if plan.level > 1:
        return
    yield from related_products(plan, op, draw, kinds)
    if plan.is_nearest:
        yield from half_ulps(plan, op)
    for extent in ("M", "N", "K"):
        yield product_case(plan, op, "empty", extent, partial(_without, plan, draw, _UNGROUPED[op], extent))
    for placement in Placement:
        for kind in kinds[:3]:
            memory = partial(draw, plan, kind, "signs_all", 65)
            yield product_case(plan, op, "memory", kind, memory, placement=placement)


def _without(plan: Plan, draw: Draw, kind: str, extent: str) -> Arguments:
    """A product with no rows, no columns, or nothing to add."""
    found = dict(draw(plan, kind, "identity1", 33))
    sides = {"M": ("x", "x_scale"), "N": ("w", "scale", "w_scale"), "K": ("x", "w", "scale", "x_scale", "w_scale")}[
        extent
    ]
    for name in sides:
        one = found.get(name)
        if isinstance(one, Tensor) and one.ndim:
            found[name] = (one[:, :0] if extent == "K" else one[:0]).contiguous()
    return found


def _probes(plan: Plan, op: str, draw: Draw, kinds: Sequence[str]) -> Iterator[Case]:
    for kind in kinds:
        for length in LENGTHS if plan.level == 1 else (*LENGTHS, 512, 1000):
            for probe in PROBES if length >= 3 else PROBES[1:]:
                yield product_case(plan, op, probe, f"{kind}/{length}", partial(draw, plan, kind, probe, length))
        for length in (33, 64, 96, 160) if plan.level == 1 else (64, 96, 129, 256, 512):
            yield _bounded(plan, op, draw, kind, length)


def _bounded(plan: Plan, op: str, draw: Draw, kind: str, length: int) -> Case:
    expected = Bounded(allowed=ALLOWED[op])
    return product_case(
        plan, op, "bounded", f"{kind}/{length}", partial(draw, plan, kind, "random", length), expected=expected
    )
