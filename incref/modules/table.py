"""Which layers can be quantized, and what they become."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from incref.config.conv1d import Conv1D
from incref.config.maxabs import MaxAbsScale
from incref.config.scheme import Elementwise, InputScheme
from incref.modules.conv import QuantConv2d
from incref.modules.embedding import QuantEmbedding, QuantEmbeddingBag
from incref.modules.kv_cache import QuantKVCache
from incref.modules.layer import QuantLayer
from incref.modules.linear import QuantLinear
from incref.modules.matmul import QuantMatmul
from incref.modules.quant_inputs import QuantInputs
from incref.nn.inputs_only import InputsOnly
from incref.nn.kv_cache import KVCache
from incref.nn.matmul import Matmul
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["QUANTIZED", "QUANTIZED_INPUTS", "quantized_inputs", "quantized_layer"]


QUANTIZED: Mapping[type[nn.Module], type[QuantLayer]] = MappingProxyType(
    {
        nn.Linear: QuantLinear,
        nn.Conv2d: QuantConv2d,
        nn.Embedding: QuantEmbedding,
        nn.EmbeddingBag: QuantEmbeddingBag,
        Conv1D: QuantLinear,
    }
)
"""For a class of layers what it becomes."""

QUANTIZED_INPUTS: Mapping[type[InputsOnly], type[QuantInputs]] = MappingProxyType(
    {Matmul: QuantMatmul, KVCache: QuantKVCache}
)
"""For a class of modules without weights what it becomes."""


def quantized_inputs(module: InputsOnly, scheme: InputScheme, scales: Mapping[str, Tensor] | None) -> QuantInputs:
    """Make what stands in for `module`, in its mode; the arguments are those of `QuantInputs`."""
    made_by = next(made_by for cls, made_by in QUANTIZED_INPUTS.items() if isinstance(module, cls))
    made = made_by(scheme, scales)
    made.train(module.training)
    return made


def quantized_layer(
    layer: nn.Module,
    qweight: QTensor,
    bias: Tensor | None,
    activation: QuantSpec | None,
    *,
    elementwise: Elementwise | None = None,
    scale_method: MaxAbsScale | None = None,
    input_scale: Tensor | None = None,
    input_zero_point: Tensor | None = None,
    input_factor: Tensor | None = None,
) -> QuantLayer:
    """Make what stands in for `layer`, in its mode; the arguments are those of `QuantLayer`."""
    made_by = next(made_by for cls, made_by in QUANTIZED.items() if isinstance(layer, cls))
    made = made_by(
        qweight,
        bias,
        activation,
        elementwise=elementwise,
        scale_method=scale_method,
        input_scale=input_scale,
        input_zero_point=input_zero_point,
        input_factor=input_factor,
    )
    made.take_over(layer)
    made.train(layer.training)
    return made
