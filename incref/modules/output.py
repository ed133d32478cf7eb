"""What a quantized layer does to its product."""

from collections.abc import Callable

from torch import Tensor

from incref.config.scheme import Elementwise
from incref.modules.input import round_elementwise

__all__ = ["multiply_and_add"]


def multiply_and_add(
    multiply: Callable[[Tensor | None], Tensor],
    bias: Tensor | None,
    *,
    spread: Callable[[Tensor], Tensor],
    elementwise: Elementwise | None,
) -> Tensor:
    """Multiply and add the bias: at once, or with the roundings of `elementwise`.

    Args:
        multiply: the product of input and weight, plus a bias if it is given one.
        bias: [N], or None.
        spread: gives a bias the dimensions that it needs to be added to the product.
        elementwise: what the product, the bias and their sum are rounded to, each once; None for nothing.
    """
    if elementwise is None:
        return multiply(bias)
    y = round_elementwise(multiply(None), elementwise)
    if bias is None:
        return y
    return round_elementwise(y + spread(round_elementwise(bias, elementwise)), elementwise)
