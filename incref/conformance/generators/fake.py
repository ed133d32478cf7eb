"""Cases of operations that quantize and dequantize at once: what is quantized in other cases, asked for as values."""

from collections.abc import Iterator
from dataclasses import replace

from incref.conformance.case import Case
from incref.conformance.generators.casts import encode_cases
from incref.conformance.generators.floats import quantize_float_cases
from incref.conformance.generators.integers import quantize_affine_cases
from incref.conformance.generators.mx import quantize_mx_cases
from incref.conformance.plan import Plan

__all__ = ["cast_cases", "fake_quantize_affine_cases", "fake_quantize_float_cases", "fake_quantize_mx_cases"]


def cast_cases(plan: Plan) -> Iterator[Case]:
    """The cases of `encode`."""
    yield from _asked_for_values("cast", encode_cases(plan))


def fake_quantize_affine_cases(plan: Plan) -> Iterator[Case]:
    """The cases of `quantize_affine`."""
    yield from _asked_for_values("fake_quantize_affine", quantize_affine_cases(plan))


def fake_quantize_float_cases(plan: Plan) -> Iterator[Case]:
    """The cases of `quantize_float`."""
    yield from _asked_for_values("fake_quantize_float", quantize_float_cases(plan))


def fake_quantize_mx_cases(plan: Plan) -> Iterator[Case]:
    """The cases of `quantize_mx`."""
    yield from _asked_for_values("fake_quantize_mx", quantize_mx_cases(plan))


def _asked_for_values(op: str, cases: Iterator[Case]) -> Iterator[Case]:
    for case in cases:
        yield replace(case, op=op)
