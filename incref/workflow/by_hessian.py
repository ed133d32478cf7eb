"""One layer's weight by its Hessian, and what to say when that went badly."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from incref.algorithms.factor import Factor
from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_grouped import gptq_grouped
from incref.config.method import GPTQ, DeadColumns
from incref.config.rules import Layer
from incref.config.scheme import LayerScheme
from incref.config.stored_weight import stored_weight
from incref.errors import CalibrationWarning, LayerError
from incref.modules.input import round_elementwise
from incref.qtensor.qtensor import QTensor

__all__ = ["SharedHessian", "need_one_factor", "quantize_by_hessian"]


@dataclass(frozen=True, kw_only=True)
class SharedHessian:
    """What calibration found about the input of some layers.

    Attributes:
        hessian: float64 [K, K], or [groups, K, K]; None if they were never called.
        factors: those that were made of this Hessian already, by what else they depend on.
        is_for_one: whether all layers need the same factor, so that it can take the memory of the Hessian.
    """

    hessian: Tensor | None
    is_for_one: bool = False
    factors: dict[Hashable, Factor] = field(default_factory=dict)


@torch.no_grad()
def quantize_by_hessian(name: str, layer: Layer, scheme: LayerScheme, shared: SharedHessian) -> QTensor:
    """Quantize the weight of `layer`, called `name`, as `scheme` says, whose method is `GPTQ`.

    Raises:
        LayerError: if that can't be done.

    Warns:
        CalibrationWarning: if it was never called, or its Hessian had to be damped more.
    """
    weight = stored_weight(layer, scheme).detach()
    if scheme.elementwise is not None:
        weight = round_elementwise(weight, scheme.elementwise)
    try:
        return _quantize(name, weight, scheme, shared)
    except (TypeError, ValueError) as error:
        raise LayerError(
            f"{name}: a weight of shape {tuple(weight.shape)} and {weight.dtype} can't become "
            f"{scheme.weight.fmt.name}: {error}"
        ) from error


def need_one_factor(layers: Sequence[tuple[Layer, LayerScheme]]) -> bool:
    """Whether layers with one Hessian need the same factor of it."""
    return len({_factor_key(stored_weight(layer, scheme), scheme) for layer, scheme in layers}) == 1


def _factor_key(weight: Tensor, scheme: LayerScheme) -> Hashable:
    """What a factor depends on beside the Hessian; the order of columns may go by groups."""
    assert isinstance(scheme.method, GPTQ)
    return scheme.method.percdamp, scheme.method.order, scheme.weight.scale_shape(weight.shape)[1:]


def _quantize(name: str, weight: Tensor, scheme: LayerScheme, shared: SharedHessian) -> QTensor:
    method, hessian = scheme.method, shared.hessian
    assert isinstance(method, GPTQ)
    if hessian is None:
        warnings.warn(
            f"{name} was never called during calibration; its weights are rounded to nearest", CalibrationWarning, 2
        )
        hessian = torch.eye(weight.shape[1], dtype=torch.float64, device=weight.device)
        return gptq(weight, hessian, scheme.weight, replace(method, dead_columns=DeadColumns.KEEP)).qweight
    if hessian.ndim == 3:
        result = gptq_grouped(weight, hessian, scheme.weight, method)
    else:
        key = _factor_key(weight, scheme)
        factor = shared.factors.get(key)
        result = gptq(weight, hessian, scheme.weight, method, factor=factor, overwrite=shared.is_for_one)
        shared.factors[key] = result.factor
    if result.factor.is_raised:
        warnings.warn(
            f"{name}: the Hessian of {weight.shape[1]} input features has no factor with percdamp={method.percdamp}; "
            f"it was damped by {result.factor.damp:.3g}; calibrate with more data, or raise percdamp",
            CalibrationWarning,
            2,
        )
    return result.qweight
