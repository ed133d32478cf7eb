"""From the largest magnitude of a tensor to its scale, by a method of FP8."""

import torch
from torch import Tensor

from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.formats import FloatFormat, ScaleRule
from incref.numerics.amax import reduce_amax
from incref.numerics.scales import float_scale
from incref.qtensor.parts import dequantize_parts, quantize_parts
from incref.qtensor.spec import QuantSpec

__all__ = ["amax_of", "scale_of", "search_scale"]

_LARGEST_POWER = 2.0**127


def amax_of(x: Tensor, spec: QuantSpec) -> Tensor:
    """Largest magnitude of all that shares a scale under `spec`, float32, in the shape of the scale; NaN beats all."""
    block = spec.granularity.block_shape(x.shape)
    values = x.to(torch.float32)
    amax = reduce_amax(values, block).view(torch.float32)
    return amax.view(spec.granularity.scale_shape(x.shape))


def scale_of(amax: Tensor, fmt: FloatFormat, method: MaxAbsScale) -> Tensor:
    """Compute scales, without a search.

    Args:
        amax: float32, any shape, not negative.
        fmt: the format that values are quantized to.
        method: any but BEST_LISTED, and BEST_MULTIPLE, for which this is the power of two to start from.

    Returns:
        float32 of the shape of `amax`; see `ScaleValue`. NaN where `amax` is NaN or Inf, but for ONE and FIXED.
    """
    match method.value:
        case ScaleValue.ONE:
            return torch.ones_like(amax)
        case ScaleValue.FIXED:
            return torch.full_like(amax, method.choices[0])
    least = float_scale(amax, fmt.qmax * method.backoff, ScaleRule.DIVIDE)
    if method.value is ScaleValue.ANY:
        return least
    if method.value is ScaleValue.LISTED:
        choices = torch.tensor(method.choices, device=amax.device)
        index = torch.bucketize(least, choices).clamp_(max=len(choices) - 1)
        return torch.where(least.isnan(), least, choices[index])
    return _next_power_of_two(least)


def search_scale(x: Tensor, spec: QuantSpec, method: MaxAbsScale) -> Tensor:
    """Compute the scales of `x`, with a search if the method says so.

    Args:
        x: float64, float32, bfloat16 or float16, finite.
        spec: how `x` is quantized; its granularity says what shares a scale.
        method: any.

    Returns:
        float32 scales in the shape that `spec` gives them. Among scales of equal error the first one, in ascending
        order, is taken.
    """
    fmt = spec.element
    assert isinstance(fmt, FloatFormat)
    start = scale_of(amax_of(x, spec), fmt, _start(method))
    if method.value not in (ScaleValue.BEST_LISTED, ScaleValue.BEST_MULTIPLE):
        return start
    best, least = start, torch.full_like(start, torch.inf, dtype=torch.float64)
    for choice in method.choices:
        tried = torch.full_like(start, choice) if method.value is ScaleValue.BEST_LISTED else start * choice
        error = _squared_error(x, tried, spec)
        best = torch.where(error < least, tried, best)
        least = torch.minimum(error, least)
    return best


def _start(method: MaxAbsScale) -> MaxAbsScale:
    if method.value is ScaleValue.BEST_LISTED:
        return MaxAbsScale(value=ScaleValue.ONE)
    if method.value is ScaleValue.BEST_MULTIPLE:
        return MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=method.backoff)
    return method


def _squared_error(x: Tensor, scale: Tensor, spec: QuantSpec) -> Tensor:
    """Squared error of every part of `x` that shares a scale, float64, in the shape of the scales."""
    values = dequantize_parts(quantize_parts(x, spec, scale), spec, torch.float64)
    error = (values - x.to(torch.float64)).square()
    if scale.ndim == 0:
        return error.sum()
    # Every other extent of a scale is 1 or that of x: the methods know whole tensors, channels and tokens.
    return error.sum([d for d, size in enumerate(scale.shape) if size == 1], keepdim=True)


def _next_power_of_two(x: Tensor) -> Tensor:
    """The least power of two that is not below `x`, at most 2**127; `x` is float32, normal and positive, or NaN."""
    mantissa = 0x7FFFFF
    power = ((x.view(torch.int32) + mantissa) & ~mantissa).view(torch.float32)
    return torch.where(x.isnan(), x, power.clamp(max=_LARGEST_POWER))
