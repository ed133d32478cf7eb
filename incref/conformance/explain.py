"""A failing case in words: the inputs at the first wrong place, what is right there, and why."""

from collections.abc import Iterator
from fractions import Fraction

from torch import Tensor

from incref.conformance.case import Case, argument_text
from incref.conformance.comparison import Mismatch
from incref.conformance.exact_product import exact_product
from incref.conformance.judge import bits_of
from incref.conformance.result import Result
from incref.ops.table import OPS

__all__ = ["explain"]


def explain(case: Case, result: Result) -> str:
    """Say what was asked, what came, what is right, and what the contract says."""
    return "\n".join(_lines(case, result))


def _lines(case: Case, result: Result) -> Iterator[str]:
    yield f"{result.status.value.upper()} {case.key}"
    for name, one in case.arguments.items():
        yield f"  {name} = {argument_text(one)}"
    yield f"  {result.reason}"
    if result.hint:
        yield f"  hint: {result.hint}"
    if result.mismatch is not None:
        yield from _place(case, result.mismatch)
    contract = OPS[case.op]
    where = f"{contract.name}@{contract.version}, class {contract.exactness.name}"
    yield f"  derivation: {where}; the arithmetic is that of `help(incref.ops.{contract.name})`:"
    documentation = (contract.__doc__ or "").partition("Returns:")[2].partition("Raises:")[0]
    yield from (f"    {line.strip()}" for line in documentation.strip().splitlines() if line.strip())


def _place(case: Case, mismatch: Mismatch) -> Iterator[str]:
    place = mismatch.places[0]
    for name, one in case.tensors.items():
        if tuple(one.shape) == mismatch.shape and one.numel():
            value = one[place]
            bits = int(bits_of(value)) & ((1 << (8 * one.itemsize)) - 1)
            yield f"  {name}[{', '.join(map(str, place))}] = {_exact(value)}, bits {bits:#0{2 + 2 * one.itemsize}x}"
    exact = exact_product(case.op, case.arguments, place)
    if exact is not None:
        yield f"  exact sum of the products: {exact}; scales and bias, if any, follow"
    yield f"  got      {mismatch.got} ({mismatch.got_bits})"
    yield f"  expected {mismatch.want} ({mismatch.want_bits})"


def _exact(value: Tensor) -> str:
    number = value.item()
    if isinstance(number, int):
        return str(number)
    if number != number or abs(number) == float("inf"):  # noqa: PLR0124  # only a NaN differs from itself
        return str(number)
    return f"{number!r} = {Fraction(number)}"
