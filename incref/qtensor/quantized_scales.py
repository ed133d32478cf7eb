"""Scales as integers, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.numerics.granularity import per_group
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.quantize_affine import quantize_affine
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec

__all__ = ["QuantizedScales", "dequantize_scales", "quantize_scales"]


@dataclass(frozen=True, kw_only=True)
class QuantizedScales:
    """What scales become.

    Attributes:
        codes: in the shape of the scales.
        step: float32 [runs, groups].
        low: float32 [runs, groups]; None if symmetric.
    """

    codes: Tensor
    step: Tensor
    low: Tensor | None = None


def quantize_scales(scale: Tensor, spec: ScaleSpec) -> QuantizedScales:
    """Quantize scales, finite and float32 or float64, which are rounded to float32 first.

    Returns:
        Codes as `ScaleSpec` says, by `quantize_affine` of the scales, or of `scale - low`, which is rounded to float32.

    Raises:
        NanError: if a scale is NaN.
    """
    matrix = _as_runs(scale.to(torch.float32), spec)
    granularity = per_group(spec.group_size)
    if spec.symmetric:
        codes, step, *_ = quantize_affine(matrix, spec.fmt, granularity=granularity)
        # A scale of zero would divide by zero.
        one = torch.where(matrix < 0, -1, 1).to(codes.dtype)
        return QuantizedScales(codes=_from_runs(torch.where(codes == 0, one, codes), scale, spec), step=step)
    low = _least(matrix, spec.group_size)
    rest = matrix - _spread(low, matrix, spec.group_size)
    codes, step, *_ = quantize_affine(rest, spec.fmt, granularity=granularity, symmetric=False)
    return QuantizedScales(codes=_from_runs(codes, scale, spec), step=step, low=low)


def dequantize_scales(scales: QuantizedScales, spec: ScaleSpec) -> Tensor:
    """Give the scales that `scales` stand for, float32: the product and then the sum rounded to it."""
    matrix = dequantize_affine(_as_runs(scales.codes, spec), scales.step, granularity=per_group(spec.group_size))
    if scales.low is not None:
        matrix = matrix + _spread(scales.low, matrix, spec.group_size)
    return _from_runs(matrix, scales.codes, spec)


def _as_runs(scale: Tensor, spec: ScaleSpec) -> Tensor:
    """A matrix with a row for each run."""
    arranged = scale.T if spec.run is ScaleRun.COLUMNS else scale
    return arranged.reshape(spec.matrix_shape(scale.shape))


def _from_runs(matrix: Tensor, like: Tensor, spec: ScaleSpec) -> Tensor:
    return matrix.T.contiguous() if spec.run is ScaleRun.COLUMNS else matrix.reshape(like.shape)


def _least(matrix: Tensor, group_size: int) -> Tensor:
    size = min(group_size, matrix.shape[1])
    padded = F.pad(matrix, (0, -matrix.shape[1] % size), value=torch.inf)
    return padded.view(len(matrix), -1, size).amin(-1)


def _spread(values: Tensor, matrix: Tensor, group_size: int) -> Tensor:
    """Give each element of `matrix` the value of its group."""
    return values.repeat_interleave(min(group_size, matrix.shape[1]), dim=1)[:, : matrix.shape[1]]
