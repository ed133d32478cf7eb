"""How codes of a tensor lie in memory."""

import torch

from incref.formats import ElementFormat, IntFormat
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.qtensor.spec import QuantSpec, word_dtype

__all__ = ["STORED_LAYOUTS", "packed_dtype", "packed_shape", "require_layout"]

STORED_LAYOUTS = (PackLayout.DENSE, PackLayout.HPU)
"""The layouts that a `QTensor` may have: DENSE along the last dimension, HPU of a transposed matrix."""


def require_layout(layout: PackLayout, spec: QuantSpec, shape: tuple[int, ...]) -> None:
    """Check that a tensor of `shape` that is quantized by `spec` can be in `layout`.

    Raises:
        ValueError: if it can't.
    """
    if layout is PackLayout.DENSE:
        return
    if layout is not PackLayout.HPU:
        allowed = ", ".join(known.value for known in STORED_LAYOUTS)
        raise ValueError(f"the layout of a tensor must be one of {allowed}, got {layout.value}")
    fmt, word = spec.fmt, 32 // LAYOUTS[layout].code_bits[0]
    if not isinstance(fmt, IntFormat) or fmt.is_signed or fmt.bits not in LAYOUTS[layout].code_bits:
        raise ValueError(f"the layout hpu holds unsigned integers of 4 bits, got {fmt.name}")
    if len(shape) != 2 or shape[0] % word:
        raise ValueError(f"the layout hpu holds matrices [N, K] with N a multiple of {word}, got shape {shape}")
    if spec.scales is not None or spec.rule.is_power_of_two or spec.scale_shape(shape)[:1] != shape[:1]:
        raise ValueError(f"the layout hpu has float scales of groups along K, got {spec}")


def packed_shape(
    shape: tuple[int, ...], element: ElementFormat, layout: PackLayout = PackLayout.DENSE
) -> tuple[int, ...]:
    """Shape of the words of codes in `shape`."""
    if layout is PackLayout.HPU:
        rows, columns = shape
        return columns, LAYOUTS[layout].num_words(element.bits, rows)
    if element.bits >= 8:
        return shape
    # A single number is packed as a row of one.
    *lead, length = shape or (1,)
    return (*lead, LAYOUTS[layout].num_words(element.bits, length))


def packed_dtype(element: ElementFormat, layout: PackLayout = PackLayout.DENSE) -> torch.dtype:
    """Dtype of those words."""
    return torch.int32 if layout is PackLayout.HPU else word_dtype(element)
