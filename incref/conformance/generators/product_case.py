"""A case of a product of matrices, and what its arguments have in common."""

from functools import partial

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case, Exact, Expected, Placement
from incref.conformance.plan import Plan

__all__ = ["HALVES", "LENGTHS", "plain_scales", "product_case"]

HALVES = (torch.bfloat16, torch.float16, torch.float32)
LENGTHS = (1, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 257)
"""K on both sides of every multiple of a block, a group or a tile."""


def product_case(
    plan: Plan,
    op: str,
    generator: str,
    name: str,
    draw: partial[Arguments],
    *,
    placement: Placement = Placement.PLAIN,
    expected: Expected | None = None,
) -> Case:
    """Name a case for the plan that it belongs to; a probe unless it is said what else is expected."""
    return Case(
        op=op,
        generator=generator,
        name=f"{name}/{plan.bits}bits/{plan.level}/{plan.seed}" if plan.bits else f"{name}/{plan.level}/{plan.seed}",
        level=plan.level,
        draw=draw,
        expected=expected or Exact(bits=plan.bits),
        placement=placement,
    )


def plain_scales(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw scales that are no powers of two."""
    return torch.rand(shape, generator=generator) * 0.09 + 0.01
