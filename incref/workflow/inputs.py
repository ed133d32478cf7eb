"""Replaces modules without weights by ones that quantize their inputs."""

from collections.abc import Mapping

from torch import Tensor, nn

from incref.calibration.amax import input_keys
from incref.config.scheme import InputScheme
from incref.errors import LayerError
from incref.modules.replace import find_holders, replace_layer
from incref.modules.table import quantized_inputs
from incref.nn.inputs_only import InputsOnly
from incref.workflow.layers import static_scale

__all__ = ["replace_inputs"]


def replace_inputs(model: nn.Module, inputs: Mapping[str, InputScheme], amax: Mapping[str, Tensor]) -> None:
    """Put modules that quantize their inputs in place of those of `model` that `inputs` names.

    Args:
        model: the model.
        inputs: what happens to the inputs of each.
        amax: what was measured, by `input_keys`.

    Raises:
        LayerError: if a module can't do what its scheme says, or was fed NaN or Inf.
    """
    holders = find_holders(model)
    for name, scheme in inputs.items():
        module = model.get_submodule(name)
        assert isinstance(module, InputsOnly)
        scales = None
        if scheme.is_static:
            keys = zip(module.arguments, input_keys(name, module), strict=True)
            scales = {
                argument: static_scale(key, scheme.activation, scheme.input_scale, amax.get(key))
                for argument, key in keys
            }
        try:
            new = quantized_inputs(module, scheme, scales)
        except ValueError as error:
            raise LayerError(f"{name}: {error}") from error
        replace_layer(holders, module, new)
