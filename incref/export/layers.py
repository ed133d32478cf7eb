"""The layers of a captured graph, and the modules that they come from."""

from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.fx.passes.utils.source_matcher_utils import get_source_partitions
from torch.nn import functional

__all__ = ["LAYERS", "layers_of", "name_sources"]

LAYERS = {torch.ops.aten.linear.default: 2, torch.ops.aten.conv2d.default: 4}
"""What is quantized, with the dimensions of its weight."""

# What torchao knows a layer by.
_SOURCES = {torch.ops.aten.linear.default: functional.linear, torch.ops.aten.conv2d.default: functional.conv2d}


def layers_of(model: fx.GraphModule) -> Iterator[tuple[str, str, int]]:
    """Path, class and dimensions of the weight of every linear layer and convolution."""
    for node in model.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op == "call_function" and node.target in LAYERS and stack:
            path, kind = list(stack.values())[-1]
            name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            yield _plain(path), name, LAYERS[node.target]


def name_sources(model: fx.GraphModule) -> None:
    """Say of every layer that it is one: torchao does not look into functions such as attention."""
    partitions = get_source_partitions(model.graph, [nn.Linear, nn.Conv2d, *_SOURCES.values()])
    known = {node for found in partitions.values() for partition in found for node in partition.nodes}
    for node in model.graph.nodes:
        if node.op == "call_function" and node.target in _SOURCES and node not in known:
            node.meta["source_fn_stack"] = [(node.name, _SOURCES[node.target])]


def _plain(path: str) -> str:
    """The name of a module, from how the strict capture writes it: L['self'].a[0] is a.0."""
    path = path.removeprefix("L['self']").lstrip(".")
    for mark in ("['", "[", "']", "]"):
        path = path.replace(mark, "." if "[" in mark else "")
    return path.replace("_modules.", "").lstrip(".")
