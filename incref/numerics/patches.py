"""The patches of an image that a convolution multiplies with its filters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Pair", "output_size", "patches_of"]

Pair = tuple[int, int]


def output_size(image: Sequence[int], kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Height and width of what a convolution gives (the formula of `torch.nn.Conv2d`).

    Raises:
        ValueError: if the kernel is larger than the image with its border.
    """
    height, width = ((image[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(2))
    if height < 1 or width < 1:
        raise ValueError(f"a kernel {tuple(kernel)} doesn't fit an image {tuple(image)} with a border of {padding}")
    return height, width


def patches_of(codes: Tensor, kernel: Pair, *, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """List the patches under a kernel; the border has the code 0.

    Args:
        codes: uint8 [B, C, H, W].
        kernel: height and width.
        stride: of the kernel.
        padding: elements added on either side.
        dilation: distance of the elements of a patch.

    Returns:
        uint8 [B, places, C * kh * kw], places row by row.
    """
    # F.unfold moves values of float32, and every code is one.
    patches = F.unfold(codes.to(torch.float32), kernel, dilation, padding, stride)
    return patches.mT.to(codes.dtype)
