"""The weight of a layer by its scheme, where that needs no calibration data."""

from torch import Tensor

from incref.algorithms.maxabs import search_scale
from incref.algorithms.rtn import rtn
from incref.config.method import RTN
from incref.config.scheme import LayerScheme
from incref.qtensor.qtensor import QTensor

__all__ = ["quantize_weight"]


def quantize_weight(weight: Tensor, scheme: LayerScheme) -> QTensor:
    """Quantize `weight` as `scheme` says, whose method is `RTN`."""
    if scheme.weight_scale is not None:
        return QTensor.quantize(weight, scheme.weight, search_scale(weight, scheme.weight, scheme.weight_scale))
    assert isinstance(scheme.method, RTN)
    return rtn(weight, scheme.weight, use_mse_search=scheme.method.use_mse_search)
