"""Operations that gain from compilation as a whole: one pass over memory, whatever the number of steps.

The compiler gets the reference itself, so its arithmetic is that of the reference: integers, and exact selections.
Operations that look through blocks first are not here: fused into one graph they repeat that look for every element,
and are slower than the reference.
"""

from collections.abc import Callable
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from incref.backends.backend import Kernel
from incref.formats import Format, IntRange, NanRule, Overflow, Rounding
from incref.ops.contract import Op
from incref.ops.decode import decode as decode_op
from incref.ops.encode import encode as encode_op

__all__ = ["KERNELS"]


@cache
def _compiled(op: Op[..., Tensor]) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(op.reference, fullgraph=True, dynamic=True)
    return compiled


def encode(
    x: Tensor,
    fmt: str | Format,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
) -> Tensor:
    """Run `incref.ops.encode`, compiled. Where the reference raises `NanError`, this raises `RuntimeError`."""
    run = _compiled(encode_op)
    return run(x, fmt, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range, random_bits=random_bits)


def decode(codes: Tensor, fmt: str | Format, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Run `incref.ops.decode`, compiled."""
    return _compiled(decode_op)(codes, fmt, dtype=dtype)


def _why_not(x: Tensor, *_args: object, **_options: object) -> str | None:
    """Say which tensors the kernels can't take."""
    if x.device.type != "cpu":
        return f"it takes tensors on the CPU, got one on {x.device}"
    return None if x.layout is torch.strided else f"it takes strided tensors, got {x.layout}"


KERNELS = MappingProxyType(
    {"encode": Kernel(fn=encode, why_not=_why_not), "decode": Kernel(fn=decode, why_not=_why_not)}
)
