"""Gradients through quantization."""

import torch
from torch import Tensor

__all__ = ["straight_through"]


class _StraightThrough(torch.autograd.Function):
    """Takes the value of one tensor and gives its gradient to another."""

    @staticmethod
    def forward(ctx: object, x: Tensor, quantized: Tensor) -> Tensor:
        del ctx, x
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: object, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grad_outputs[0], None


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """Give `quantized` the gradient of `x`: the straight-through estimator (arXiv 1308.3432).

    Args:
        x: what was quantized.
        quantized: what became of it, in its shape and dtype.

    Returns:
        `quantized`, bit for bit. Its gradient is handed to `x` as it is, also where `x` was saturated: a scale that
        follows the largest magnitude leaves hardly anything beyond the range.

    >>> x = torch.tensor([0.3, 2.0], requires_grad=True)
    >>> straight_through(x, x.detach().round()).sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return quantized
    result: Tensor = _StraightThrough.apply(x, quantized)  # type: ignore[no-untyped-call]  # untyped in torch
    return result
