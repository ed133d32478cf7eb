"""Keeps compiled graphs from writing to what they are given.

PyTorch's Inductor, with freezing, adds a residual to the output of a linear layer of integers in the memory of the
residual. If that is an argument of the caller, or a parameter, it is overwritten, and the next call is wrong.
"""

import torch
from torch import fx

from incref.export.operators import OPERATORS

__all__ = ["guard"]

_ADDS = ("aten.add.Tensor", "aten.add_.Tensor", "aten.add.Scalar", "aten.add_.Scalar")
# What may give the memory of its first argument back.
_VIEWS = frozenset(
    {
        "_to_copy",
        "_unsafe_view",
        "alias",
        "as_strided",
        "chunk",
        "clone",
        "contiguous",
        "detach",
        "detach_",
        "dropout",
        "expand",
        "expand_as",
        "flatten",
        "lift_fresh",
        "lift_fresh_copy",
        "movedim",
        "narrow",
        "permute",
        "reshape",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "swapaxes",
        "t",
        "to",
        "transpose",
        "unflatten",
        "unsqueeze",
        "view",
        "view_as",
    }
)


def guard(model: fx.GraphModule) -> None:
    """Copy arguments, parameters and buffers before they are added to something, in the graph of `model`."""
    given = next((node for node in model.graph.nodes if _is_tensor_argument(node)), None)
    for node in list(model.graph.nodes) if given is not None else ():
        if node.op != "call_function" or str(node.target) not in _ADDS:
            continue
        for arg in node.all_input_nodes:
            if _root(arg).op in ("placeholder", "get_attr") and _is_float(arg):
                with model.graph.inserting_before(node):
                    copied = model.graph.call_function(OPERATORS.fresh.default, (arg, given))
                copied.meta = dict(arg.meta)
                node.replace_input_with(arg, copied)
    model.recompile()


def _is_tensor_argument(node: fx.Node) -> bool:
    return node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)


def _root(node: fx.Node) -> fx.Node:
    """The node whose memory `node` may share."""
    while node.op == "call_function" and node.all_input_nodes:
        name = getattr(node.target, "overloadpacket", node.target)
        if getattr(name, "__name__", "") not in (*_VIEWS, "getitem"):
            break
        node = node.all_input_nodes[0]
    return node


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or value.is_floating_point()
