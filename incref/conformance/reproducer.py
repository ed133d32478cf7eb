"""A failing case as a program of its own: arguments in bits, the reference, and what came."""

from collections.abc import Iterator
from enum import Enum

from torch import Tensor

from incref.conformance.case import Case
from incref.conformance.judge import bits_of
from incref.formats import Format
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import Granularity

__all__ = ["reproducer"]

_MOST_LISTED = 64


def reproducer(case: Case) -> str:
    """Write a Python program that makes the arguments of a case and asks the reference.

    Only elements that are not zero are listed; a tensor with more of them than fit is drawn by the case again.
    """
    return "\n".join(_lines(case)) + "\n"


def _lines(case: Case) -> Iterator[str]:
    yield "import torch"
    yield f"from incref.ops import {case.op}"
    modes = sorted({type(one).__name__ for one in case.arguments.values() if isinstance(one, Enum)} - {"PackLayout"})
    if modes:
        yield f"from incref.formats import {', '.join(modes)}"
    if any(isinstance(one, PackLayout) for one in case.arguments.values()):
        yield "from incref.formats.layouts import PackLayout"
    if any(isinstance(one, Granularity) for one in case.arguments.values()):
        yield "from incref.numerics.granularity import Granularity"
    yield ""
    yield f"# {case.key}"
    for name, one in case.arguments.items():
        if isinstance(one, Tensor):
            yield from _tensor(name, one)
    words = ", ".join(f"{name}={_text(name, one)}" for name, one in case.arguments.items())
    yield f"print({case.op}({words}))"


def _text(name: str, value: object) -> str:
    if isinstance(value, Tensor):
        return name
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Format):
        return repr(value.name)
    return repr(value)


def _tensor(name: str, x: Tensor) -> Iterator[str]:
    bits = bits_of(x.contiguous())
    flat = bits.reshape(-1)
    places = flat.nonzero().flatten()
    dtype = str(bits.dtype)
    yield f"{name} = torch.zeros({x.numel()}, dtype={dtype})"
    if places.numel() > _MOST_LISTED:
        yield f"{name}[:] = torch.tensor({flat.tolist()}, dtype={dtype})"
    elif places.numel():
        yield f"{name}[{places.tolist()}] = torch.tensor({flat[places].tolist()}, dtype={dtype})"
    view = "" if x.dtype is bits.dtype else f".view({x.dtype})"
    yield f"{name} = {name}{view}.view({tuple(x.shape)})"
