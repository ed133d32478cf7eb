"""The right answers to cases: from the references, or from the oracle that the references are held to."""

from collections.abc import Collection
from enum import Enum

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case
from incref.conformance.comparison import as_results
from incref.conformance.implementation import Choice
from incref.conformance.oracle_answers import ORACLE_ANSWERS
from incref.formats import BlockFormat, FloatFormat, get_format
from incref.numerics.codes import code_dtype
from incref.numerics.decode import value_table
from incref.ops.table import OPS

__all__ = ["Answers", "Judge", "canonical_codes"]

_KEPT_BYTES = 1 << 29


class Judge(Enum):
    """Who says what is right."""

    REFERENCE = "reference"
    """The reference of the operation: fast, and itself held to the oracle."""
    ORACLE = "oracle"
    """Exact arithmetic on integers and fractions, which shares nothing with the reference but the table of formats."""


class Answers:
    """Right answers, kept so that many implementations can be asked the same."""

    def __init__(self, judge: Judge = Judge.REFERENCE) -> None:
        """Begin with none."""
        self.judge = judge
        self._kept: dict[tuple[str, frozenset[Choice]], tuple[Tensor, ...]] = {}
        self._bytes = 0

    def why_not(self, case: Case) -> str | None:
        """Say why there is no answer to a case, or None if there is one."""
        if self.judge is Judge.ORACLE and case.op not in ORACLE_ANSWERS:
            return f"the oracle has no {case.op}"
        return None

    def find(self, case: Case, choices: Collection[Choice] = ()) -> tuple[Tensor, ...]:
        """Answer a case, for an implementation that makes these choices."""
        that_matter = frozenset(choices) & {Choice.FLUSHES_INPUTS}
        key = (case.key, that_matter)
        if key not in self._kept:
            arguments = _flushed(case.arguments) if that_matter else case.arguments
            ask = OPS[case.op].reference if self.judge is Judge.REFERENCE else ORACLE_ANSWERS[case.op]
            found = as_results(ask(**arguments))
            size = sum(one.numel() * one.itemsize for one in found)
            if self._bytes + size > _KEPT_BYTES:
                return found
            self._kept[key], self._bytes = found, self._bytes + size
        return self._kept[key]


def _flushed(arguments: Arguments) -> Arguments:
    """Replace subnormal elements of `x` by zeros of their sign."""
    x = arguments.get("x")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return arguments
    is_small = x.abs() < torch.finfo(x.dtype).tiny
    return {**arguments, "x": torch.where(is_small, torch.zeros_like(x).copysign(x), x)}


def canonical_codes(results: tuple[Tensor, ...], case: Case) -> tuple[Tensor, ...]:
    """Replace every code of a NaN in the first result by one of them, for implementations that declare ANY_NAN_CODE."""
    name = case.arguments.get("fmt")
    fmt = get_format(name) if isinstance(name, str) else None
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    codes = results[0]
    if not isinstance(element, FloatFormat) or element.bits > 8 or codes.dtype is not code_dtype(element):
        return results
    nan_codes = value_table(element, torch.float32, codes.device).isnan().nonzero().flatten().to(codes.dtype)
    if not nan_codes.numel():
        return results
    return (torch.where(torch.isin(codes, nan_codes), nan_codes[0], codes), *results[1:])
