"""`prepare_qat`: a model that computes as its quantized self, and can be trained."""

import copy
from dataclasses import replace

from torch import nn

from incref.config.resolve import QuantConfig
from incref.errors import UnsupportedError
from incref.modules.trained import check_trainable
from incref.workflow.inputs import replace_inputs
from incref.workflow.prepare import attach_plan, find_plan, make_plan

__all__ = ["prepare_qat"]


def prepare_qat(
    model: nn.Module,
    quant_config: QuantConfig,
    inplace: bool = True,  # noqa: FBT001, FBT002  # the order that callers know
) -> nn.Module:
    """Prepare `model` for fine-tuning, and for `convert`.

    Every call computes, bit for bit, what the converted model would: weights, inputs and outputs are quantized as
    the configuration says. The weights themselves stay float parameters under their names; gradients go straight
    through every rounding, and products of the backward pass are computed in float.

    Args:
        model: any model; it has to be prepared once only.
        quant_config: a configuration that needs no calibration data, one as a dict, or a scheme for all linear layers
            but output heads.
        inplace: whether `model` itself is changed; if not, a copy is.

    Returns:
        The prepared model.

    Raises:
        UnsupportedError: if a layer is to be quantized with the help of calibration data.
        ValueError: if a rule of the configuration matches no layer, or the model is prepared already.
        LayerError: if a layer can't become what the configuration says; the message names it.

    >>> import torch
    >>> from incref.config.mx import MXQuantConfig
    >>> model = prepare_qat(nn.Sequential(nn.Linear(64, 8)), MXQuantConfig(w_dtype="mxfp4", act_dtype="mxfp8_e4m3"))
    >>> model(torch.ones(1, 64)).sum().backward()
    >>> model[0].weight.grad.shape
    torch.Size([8, 64])
    """
    if find_plan(model) is not None:
        raise ValueError("the model is prepared already; call convert, or start from the float model")
    plan = make_plan(model, quant_config)
    for name, scheme in plan.schemes.items():
        check_trainable(name, model.get_submodule(name), scheme)
    for name in (name for name, inputs in plan.inputs.items() if inputs.is_static):
        raise UnsupportedError(f"{name}: scales that are found in every call are needed, got static ones")
    if not inplace:
        model = copy.deepcopy(model)
    # Modules without weights become at once what they will be.
    replace_inputs(model, plan.inputs, {})
    return attach_plan(model, replace(plan, inputs={}, trains=True))
