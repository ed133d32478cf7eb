"""What the processor does to products of 8-bit integers in PyTorch's own kernels."""

import functools

import torch

__all__ = ["saturates"]


@functools.cache
def saturates() -> bool:
    """Whether oneDNN multiplies uint8 and int8 wrongly on this processor.

    Without VNNI it adds two products in 16 bits, where `255 * 127 * 2` does not fit, and saturates. A product that
    would show that is computed. Where PyTorch comes without oneDNN, compilers have no such product.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    x = torch.full((1, 64), 255, dtype=torch.uint8)
    w = torch.full((16, 64), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(w, None)
    ones = torch.ones(16), torch.zeros(16, dtype=torch.int32)
    result = torch.ops.onednn.qlinear_pointwise(x, 1.0, 0, packed, *ones, None, 1.0, 0, torch.float32, "none", [], "")
    return not bool((result == 255 * 127 * 64).all())
