"""Sums of two terms that float32 does not hold: what is declared to be the nearest has one right answer in every order.

The other products are zero, and adding zero is exact, so whatever the order, one rounding is all that happens. It is
asked where the accumulator is declared to round to nearest, ties to even.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case
from incref.conformance.generators.lefts import edges_of
from incref.conformance.generators.product_case import product_case
from incref.conformance.plan import Plan
from incref.formats import FORMATS, BlockFormat, FloatFormat
from incref.numerics.granularity import PER_TENSOR
from incref.ops import encode

__all__ = ["half_ulps"]

_PARTS = (1.0, 1.5, -0.5, -0.75)
"""A tie above a power of two, beyond it, a tie below, beyond it; times `2**-24`."""
_EXPONENT = -24
_LENGTHS = (65, 160)
_STEP = 32


def half_ulps(plan: Plan, op: str) -> Iterator[Case]:
    """Pairs of terms at the edges of tiles, of either order and sign."""
    for kind in _KINDS[op]:
        for length in _LENGTHS:
            yield product_case(plan, op, "half_ulps", f"{kind}/{length}", partial(_DRAWS[op], kind, length))


def _pairs(length: int) -> list[tuple[int, int]]:
    """Places of a large and a small term: neighbours, and far from one another."""
    edges = [edge for edge in edges_of(length, _STEP) if edge + 1 < length]
    near = [(edge, edge + 1) for edge in edges]
    far = [(edge, length - 1 - edge) for edge in edges if edge != length - 1 - edge]
    return [*near, *((b, a) for a, b in near), *far]


def _terms(length: int) -> tuple[Tensor, Tensor]:
    """The large and the small terms, float64 [rows, K] each; the small ones without their power of two."""
    rows = [(pair, part, sign) for pair in _pairs(length) for part in _PARTS for sign in (1.0, -1.0)]
    large, small = torch.zeros(len(rows), length), torch.zeros(len(rows), length)
    for row, ((one, other), part, sign) in enumerate(rows):
        large[row, one], small[row, other] = sign, sign * part
    return large, small


def _weight_only(kind: str, length: int) -> Arguments:
    large, small = _terms(length)
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    return {
        "x": (large + small * 2.0**_EXPONENT).to(dtype),
        "w": torch.ones(2, length, dtype=torch.int8),
        "scale": torch.tensor(1.0),
        "fmt": "int8",
        "granularity": PER_TENSOR,
        "dtype": torch.float32,
    }


def _fp8(kind: str, length: int) -> Arguments:
    """Both factors have about half of the exponent of a term; a column of the weight for every pair of places."""
    fmt = FORMATS[kind]
    assert isinstance(fmt, FloatFormat)
    large, small = _terms(length)
    top = 2 * fmt.emax - 1
    rest = (top + _EXPONENT) // 2
    x = large * 2.0**fmt.emax + small * 2.0 ** (top + _EXPONENT - rest)
    sizes = large.abs() * 2.0 ** (fmt.emax - 1) + (small != 0) * 2.0**rest
    return {
        "x": encode(x, kind),
        "w": encode(sizes[:: 2 * len(_PARTS)], kind),
        "x_fmt": kind,
        "w_fmt": kind,
        "x_scale": None,
        "w_scale": None,
        "dtype": torch.float32,
    }


def _mx(kind: str, length: int) -> Arguments:
    """The power of two is in the scales, so both terms of a pair lie in blocks of their own."""
    fmt = FORMATS[kind]
    assert isinstance(fmt, BlockFormat)
    large, small = _terms(length)
    blocks = -(-length // fmt.block_size)
    of_large, of_small = ((one != 0).double().argmax(-1) // fmt.block_size for one in (large, small))
    apart = of_large != of_small
    large, small, of_small = large[apart], small[apart], of_small[apart]
    x_scale = torch.full((large.shape[0], blocks), 127)
    # Twice the parts, 2 and 3 among them, are values of every element format.
    x_scale[torch.arange(large.shape[0]), of_small] += _EXPONENT - 1
    return {
        "x": encode(large + 2 * small, fmt.element),
        "w": encode(torch.ones(2, length), fmt.element),
        "x_scale": x_scale.to(torch.uint8),
        "w_scale": torch.full((2, blocks), 127, dtype=torch.uint8),
        "x_fmt": kind,
        "w_fmt": kind,
    }


_DRAWS: Mapping[str, Callable[[str, int], Arguments]] = {
    "weight_only_matmul": _weight_only,
    "fp8_matmul": _fp8,
    "mx_matmul": _mx,
}
_KINDS = {
    "weight_only_matmul": ("float32", "bfloat16"),
    "fp8_matmul": ("float8_e4m3fn", "float8_e5m2"),
    "mx_matmul": ("mxfp8_e4m3", "mxfp4"),
}
