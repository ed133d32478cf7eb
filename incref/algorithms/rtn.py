"""Round to nearest."""

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.formats import BlockFormat, Rounding
from incref.numerics.scaled import compute_dtype
from incref.qtensor.parts import Parts, dequantize_parts, draw_random_bits, find_scale, quantize_parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["RATIOS", "rtn"]

RATIOS = tuple((200 - i) / 200 for i in range(40))
"""By what the search for the least squared error shrinks the range: 1, 0.995, ... 0.805."""


def rtn(weight: Tensor, spec: QuantSpec, *, use_mse_search: bool = False) -> QTensor:
    """Quantize `weight` by rounding each element to the nearest code, in any format.

    Args:
        weight: float64, float32, bfloat16 or float16.
        spec: how. Stochastic rounding draws from a generator seeded with 0, so results are reproducible.
        use_mse_search: whether scales are those of `weight * r`, a product in float32 (float64 for float64), for the r
            of `RATIOS` that gives the least sum of squared errors over the whole weight, in float64; the first such.

    Returns:
        The codes and scales that the operation of the format gives.

    Raises:
        UnsupportedError: for a search in a block format, whose scales are powers of two or codes.
        NanError: if `weight` is not finite and the format has no NaN.
    """
    random_bits = None
    if spec.rounding is Rounding.STOCHASTIC:
        # No generator where none is needed: a compiled model can't make one.
        random_bits = draw_random_bits(weight, spec.rounding, torch.Generator().manual_seed(0))
    if not use_mse_search:
        return QTensor.quantize(weight, spec, random_bits=random_bits)
    if isinstance(spec.fmt, BlockFormat):
        raise UnsupportedError(f"the search shrinks scales that are floats, and those of {spec.fmt.name} are not")
    best: Parts | None = None
    least = torch.inf
    for ratio in RATIOS:
        # Rounding keeps order, so the extremes of the product are those of `weight`, shrunk.
        scale, zero_point = find_scale(weight.to(compute_dtype(weight.dtype)) * ratio, spec)
        parts = quantize_parts(weight, spec, scale, zero_point, random_bits=random_bits)
        error = _squared_error(weight, dequantize_parts(parts, spec, weight.dtype))
        if best is None or error < least:
            best, least = parts, error
    assert best is not None
    return QTensor.from_parts(best, spec, weight.dtype)


def _squared_error(x: Tensor, y: Tensor) -> float:
    return float((x.to(torch.float64) - y.to(torch.float64)).square().sum())
