"""Relations between products: what scaling by a power of two and a change of sign must do to every sum.

Both hold for every order, grouping and splitting of a sum, because every rounding commutes with them; the second only
if no rounding is directed. See `conformance/contracts/properties.md`.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case, Related
from incref.conformance.generators.factors import Draw
from incref.conformance.generators.product_case import product_case
from incref.conformance.plan import Plan
from incref.formats import BlockFormat, get_format
from incref.ops import decode, encode

__all__ = ["related_products"]

_SHIFTS = (20, -20)
"""Exponents that take values near 1 out of what float16 holds, and leave them far inside of what float32 does."""
_LENGTHS = (65, 160)


def related_products(plan: Plan, op: str, draw: Draw, kinds: Sequence[str]) -> Iterator[Case]:
    """Products of random values, and what they have to be by the products of scaled and of negated ones."""
    for kind in kinds:
        for length in _LENGTHS:
            drawn = partial(_in_float32, draw, plan, kind, length)
            name = f"{kind}/{length}"
            for shift in _SHIFTS if _has_scale(op, drawn) else ():
                related = Related(other=partial(_scaled, op, shift), back=partial(_times, 2.0**-shift))
                yield product_case(plan, op, "scaled", f"{name}/by{shift}", drawn, expected=related)
            if plan.is_symmetric:
                related = Related(other=partial(_negated, op), back=torch.neg)
                yield product_case(plan, op, "negated", name, drawn, expected=related)


def _in_float32(draw: Draw, plan: Plan, kind: str, length: int) -> Arguments:
    """Random arguments of dtypes that have the exponents of float32."""
    found = {**draw(plan, kind, "random", length), "dtype": torch.float32}
    x = found["x"]
    assert isinstance(x, Tensor)
    return {**found, "x": x.to(torch.bfloat16)} if x.dtype is torch.float16 else found


def _has_scale(op: str, drawn: partial[Arguments]) -> bool:
    """Whether something can be scaled without a rounding: values of floats, or scales."""
    return op == "weight_only_matmul" or drawn().get("x_scale") is not None


def _scaled(op: str, shift: int, arguments: Arguments) -> Arguments:
    """Multiply the left factor by a power of two; codes of E8M0 are exponents."""
    name = "x" if op == "weight_only_matmul" else "x_scale"
    one = arguments[name]
    assert isinstance(one, Tensor)
    return {**arguments, name: one + shift if one.dtype is torch.uint8 else one * 2.0**shift}


def _times(factor: float, y: Tensor) -> Tensor:
    return y * factor


def _negated(op: str, arguments: Arguments) -> Arguments:
    """Change the sign of the left factor, whose values are symmetric."""
    x, name = arguments["x"], arguments.get("x_fmt")
    assert isinstance(x, Tensor)
    if op == "weight_only_matmul":
        return {**arguments, "x": -x}
    assert isinstance(name, str)
    fmt = get_format(name)
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return {**arguments, "x": encode(-decode(x, element), element)}
