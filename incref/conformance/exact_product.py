"""The exact sum behind one element of a product, before scales, bias and roundings."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

import torch
from torch import Tensor

from incref.conformance.case import Arguments
from incref.formats import get_format
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.scaled_matmul import as_rows
from incref.ops import decode, dequantize_mx
from incref.ops.quantize_mx import get_block_format
from incref.ops.weight_only_matmul import dequantize_weight, regroup

__all__ = ["exact_product"]


def exact_product(op: str, arguments: Arguments, place: tuple[int, ...]) -> Fraction | None:
    """Add the products of a row of `x` and one of `w`, without any rounding.

    Args:
        op: name of the operation.
        arguments: its own, by name.
        place: of an element of the result.

    Returns:
        The sum; None for an operation that is no product of matrices, or if a factor is NaN or Inf.
    """
    if op not in _FACTORS:
        return None
    x, w = _FACTORS[op](arguments)
    *rows, column = place
    one, other = as_rows(x[tuple(rows)].unsqueeze(0))[0], w[column]
    if not bool(one.isfinite().all() and other.isfinite().all()):
        return None
    terms = zip(one.tolist(), other.tolist(), strict=True)
    return sum((Fraction(a) * Fraction(b) for a, b in terms), Fraction(0))


def _tensor(arguments: Arguments, name: str) -> Tensor:
    found = arguments[name]
    assert isinstance(found, Tensor)
    return found


def _optional(arguments: Arguments, name: str) -> Tensor | None:
    return _tensor(arguments, name) if arguments.get(name) is not None else None


def _integers(arguments: Arguments) -> tuple[Tensor, Tensor]:
    found = []
    for side in ("x", "w"):
        codes, zero = _tensor(arguments, side).to(torch.float64), _optional(arguments, f"{side}_zero_point")
        found.append(codes if zero is None else codes - zero)
    return found[0], found[1]


def _floats(arguments: Arguments) -> tuple[Tensor, Tensor]:
    x, w = (decode(_tensor(arguments, side), str(arguments[f"{side}_fmt"]), dtype=torch.float64) for side in ("x", "w"))
    return x, w


def _blocks(arguments: Arguments) -> tuple[Tensor, Tensor]:
    found = []
    for side in ("x", "w"):
        fmt = get_block_format(str(arguments[f"{side}_fmt"]))
        # The scale of the tensor enters after the sum.
        one = torch.tensor(1.0) if fmt.has_tensor_scale else None
        codes, scale = (_tensor(arguments, name) for name in (side, f"{side}_scale"))
        found.append(dequantize_mx(codes, scale, fmt, tensor_scale=one, dtype=torch.float64))
    return found[0], found[1]


def _weights(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """The weight as it is dequantized, rounded to its dtype."""
    x, w, scale = (_tensor(arguments, name) for name in ("x", "w", "scale"))
    zero, g_idx = (_optional(arguments, name) for name in ("zero_point", "g_idx"))
    fmt, granularity = get_format(str(arguments["fmt"])), arguments.get("granularity", PER_TENSOR)
    dtype = arguments.get("weight_dtype") or x.dtype
    assert isinstance(granularity, Granularity)
    assert isinstance(dtype, torch.dtype)
    if g_idx is not None:
        granularity, scale, zero = regroup(w, g_idx, scale, zero, fmt=fmt, granularity=granularity)
    tensor_scale = _optional(arguments, "tensor_scale")
    weight = dequantize_weight(w, scale, zero, tensor_scale, fmt=fmt, granularity=granularity, dtype=dtype)
    return x.to(torch.float64), weight.to(torch.float64)


_FACTORS: Mapping[str, Callable[[Arguments], tuple[Tensor, Tensor]]] = MappingProxyType(
    {"int8_matmul": _integers, "fp8_matmul": _floats, "mx_matmul": _blocks, "weight_only_matmul": _weights}
)
