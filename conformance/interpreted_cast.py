"""A cast in Triton's language, as its interpreter executes it: TRITON_INTERPRET=1."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["cast"]

_TYPES = {"float8_e4m3fn": tl.float8e4nv, "float8_e5m2": tl.float8e5}


@triton.jit
def _cast_kernel(x, codes, count, KIND: tl.constexpr, BLOCK: tl.constexpr):  # noqa: ANN001, ANN202  # Triton
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count)
    tl.store(codes + at, values.to(KIND).to(tl.uint8, bitcast=True), mask=at < count)


def cast(x: Tensor, fmt: str) -> Tensor:
    """Convert by `tl.Tensor.to`."""
    codes = torch.empty(x.shape, dtype=torch.uint8)
    block = 128
    _cast_kernel[(-(-x.numel() // block),)](x, codes, x.numel(), _TYPES[fmt], block)
    return codes
