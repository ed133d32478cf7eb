"""Which tensors of a captured graph become codes: torchao's rules for x86 processors, where they cost no accuracy.

torchao quantizes what enters a layer, and more, so that Inductor finds operations that take and give integers. Of that
more is kept:

* the other term of a sum that ends in a convolution, if a layer takes its codes too, or it is a layer's output itself;
* what is pooled, flattened or joined, if all that read the result take codes: the greatest of codes is the code of the
  greatest, and the other two move them.

Averages have a narrower range than what is averaged, and products of two activations multiply floats: neither is kept.
"""

import warnings

import torch
from torch import fx
from torch.nn import functional
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer

from incref.export.layers import LAYERS

__all__ = ["Quantizer"]

_SUMS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
_MOVES = (torch.ops.aten.max_pool2d.default, torch.ops.aten.flatten.using_ints, torch.ops.aten.cat.default)
_FLOATS = (functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.conv1d, torch.mul)
_MARK = "quantization_annotation"


class Quantizer(X86InductorQuantizer):  # type: ignore[misc]  # torchao is untyped
    """Marks what becomes codes, for torchao to put observers there."""

    def __init__(self) -> None:
        """Leave alone what torchao would quantize unasked."""
        super().__init__()
        for function in _FLOATS:
            self.set_function_type_qconfig(function, None)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark the nodes of `model`, and give it back."""
        with warnings.catch_warnings():
            # What is not quantized around it stays so, without a word.
            warnings.filterwarnings("ignore", message="The input of maxpool2d is not quantized")
            super().annotate(model)
        for node in model.graph.nodes:
            if node.target in _SUMS and not all(_has_codes(term) for term in _codes_of(node)):
                _unmark(node)
        # Whether one is kept depends on those that read it.
        for node in reversed(model.graph.nodes):
            if node.target in _MOVES and not all(node in _codes_of(user) for user in node.users):
                _unmark(node)
        return model

    def _get_input_idx_for_binary_node(self, layer: fx.Node, total: fx.Node) -> tuple[int | None, int | None]:
        """Say which argument of a sum is the layer and which the other; torchao takes numbers for a mistake."""
        if not all(isinstance(arg, fx.Node) for arg in total.args):
            return None, None
        found: tuple[int | None, int | None] = super()._get_input_idx_for_binary_node(layer, total)
        return found


def _has_codes(term: fx.Node) -> bool:
    """Whether a term of a sum is what a layer of integers takes, or gives."""
    layers = [node for node in (term, *term.users) if node.target in LAYERS]
    return any(term in _codes_of(layer) or (layer is term and _codes_of(layer)) for layer in layers)


def _codes_of(node: fx.Node) -> dict[fx.Node, object]:
    """The inputs of a node that are quantized for it."""
    mark = node.meta.get(_MARK)
    return mark.input_qspec_map if mark is not None else {}


def _unmark(node: fx.Node) -> None:
    if _MARK in node.meta:
        node.meta[_MARK].input_qspec_map = {}
        node.meta[_MARK].output_qspec = None
