"""`export`: capture the graph of a model."""

import copy
import warnings

import torch
from torch import fx, nn

from incref.errors import UnsupportedError
from incref.modules.stage import Stage, set_stage

__all__ = ["copy_graph", "export"]

Shapes = dict[str, object] | tuple[object, ...] | list[object] | None
"""Which dimensions of the inputs may differ from those of the example; see `torch.export.export`."""


def export(model: nn.Module, example_inputs: tuple[object, ...], dynamic_shapes: Shapes = None) -> fx.GraphModule:
    """Capture the graph of `model`, for `prepare` and `convert` with a configuration for 8-bit integers.

    It is captured strictly, by following its bytecode, and if that fails by running it. The graph is that of the mode
    the model is in: call `model.eval()` first.

    Args:
        model: a float model.
        example_inputs: positional arguments of one call.
        dynamic_shapes: which dimensions of them may change; see `torch.export.export`.

    Returns:
        The graph as a module that is called like `model`.

    Raises:
        TypeError: if `example_inputs` is not a tuple.
        UnsupportedError: if the model can't be captured either way; the message has both reasons.
    """
    if not isinstance(example_inputs, tuple):
        raise TypeError(
            f"example_inputs is a tuple of the arguments of one call, got {type(example_inputs).__name__}; "
            "for a single one write (x,)"
        )
    reasons: list[str] = []
    for strict in (True, False):
        try:
            program = torch.export.export(model, example_inputs, dynamic_shapes=dynamic_shapes, strict=strict)
        except Exception as error:  # noqa: BLE001  # whatever the model or the capture raises
            reasons.append(f"{'strictly' if strict else 'by running it'}: {type(error).__name__}: {error}")
            continue
        graph = program.module()
        assert isinstance(graph, fx.GraphModule)
        set_stage(graph, Stage.EXPORTED)
        return graph
    raise UnsupportedError(
        f"{type(model).__name__} can't be captured; leave export out to quantize its layers as modules. "
        + "; ".join(reasons)
    )


def copy_graph(model: fx.GraphModule) -> fx.GraphModule:
    """Copy a graph and its tensors."""
    with warnings.catch_warnings():
        # PyTorch copies its own descriptions of arguments in a way that it warns of.
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(model)
