"""`QuantMatmul`: a product of two activations that are quantized first."""

import torch
from torch import Tensor

from incref.modules.input import round_elementwise
from incref.modules.quant_inputs import QuantInputs
from incref.nn.matmul import Matmul

__all__ = ["QuantMatmul"]


class QuantMatmul(QuantInputs):
    """Compute `torch.matmul(x, y)` of x [..., M, K] and y [..., K, N], quantized and dequantized.

    Both factors are quantized alike, y as its transpose: blocks and tokens lie along K in either. The product is
    rounded to what the scheme says. For arguments see `QuantInputs`.
    """

    arguments = Matmul.arguments

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Quantize, and multiply.

        Raises:
            ValueError: for a factor that is no matrix.
        """
        if min(x.ndim, y.ndim) < 2:
            raise ValueError(
                f"factors are matrices or batches of them, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
            )
        product = torch.matmul(self._quantize("x", x), self._quantize("y", y, is_transposed=True))
        return product if self.scheme.elementwise is None else round_elementwise(product, self.scheme.elementwise)
