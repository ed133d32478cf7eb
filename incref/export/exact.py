"""`exact`: a converted graph whose products are those of `int8_matmul`, bit for bit, however it is run."""

import torch
from torch import fx, nn

from incref.errors import UnsupportedError
from incref.export.capture import copy_graph
from incref.export.operators import OPERATORS
from incref.formats import ScaleOrder

__all__ = ["exact"]

_INPUTS = ("quantized_decomposed.dequantize_per_tensor.default", "quantized_decomposed.dequantize_per_tensor.tensor")
_WEIGHTS = ("quantized_decomposed.dequantize_per_channel.default",)
_LINEAR = torch.ops.aten.linear.default
_CONV = torch.ops.aten.conv2d.default


def exact(model: nn.Module, *, order: ScaleOrder = ScaleOrder.PRODUCT) -> fx.GraphModule:
    """Replace the linear layers and convolutions of integers in a converted graph by exact ones.

    As it is converted, the graph dequantizes the codes and multiplies floats, which a compiler may turn into products
    of integers; here these are spelt out, as `int8_matmul` defines them.

    Args:
        model: what `convert` made of an exported model; it is not changed.
        order: where scales enter; PRODUCT is what oneDNN computes on a processor with AVX2, X_THEN_W with AVX-512 and
            VNNI.

    Raises:
        TypeError: if `model` is not a graph.
        UnsupportedError: if a weight of integers is used in another way.
    """
    if not isinstance(model, fx.GraphModule):
        raise TypeError(f"only a captured graph can be made exact, got {type(model).__name__}; quantized modules are")
    made = copy_graph(model)
    for node in list(made.graph.nodes):
        if node.op == "call_function" and any(_is_one_of(arg, _WEIGHTS) for arg in node.args):
            _replace(made, node, order)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


def _replace(model: fx.GraphModule, node: fx.Node, order: ScaleOrder) -> None:
    x, w = node.args[:2]
    if node.target not in (_LINEAR, _CONV) or not (_is_one_of(x, _INPUTS) and _is_one_of(w, _WEIGHTS)):
        raise UnsupportedError(f"{node} is no linear layer or 2-d convolution of integers: {node.format_node()}")
    assert isinstance(x, fx.Node)
    assert isinstance(w, fx.Node)
    bias = node.args[2] if len(node.args) > 2 else None
    dtype = node.meta["val"].dtype if "val" in node.meta else torch.float32
    with model.graph.inserting_before(node):
        scale = _as_tensor(model, f"{node.name}_input_scale", x.args[1], torch.float32)
        zero_point = _as_tensor(model, f"{node.name}_input_zero_point", x.args[2], torch.int32)
        tensors = (x.args[0], scale, zero_point, *w.args[:2], bias)
        if node.target is _LINEAR:
            new = model.graph.call_function(OPERATORS.int8_linear.default, (*tensors, order.value, dtype))
        else:
            geometry = (*node.args[3:], *_CONV_DEFAULTS[len(node.args[3:]) :])
            arguments = (*tensors, *geometry, order.value, dtype)
            new = model.graph.call_function(OPERATORS.int8_conv2d.default, arguments)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    model.graph.erase_node(node)


_CONV_DEFAULTS = ([1, 1], [0, 0], [1, 1], 1)


def _is_one_of(node: object, names: tuple[str, ...]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and str(node.target) in names


def _as_tensor(model: fx.GraphModule, name: str, value: object, dtype: torch.dtype) -> fx.Node:
    """The node of a scale or zero point, which may be a number."""
    if isinstance(value, fx.Node):
        return value
    assert isinstance(value, float | int)
    model.register_buffer(name, torch.tensor(value, dtype=dtype))
    return model.graph.get_attr(name)
