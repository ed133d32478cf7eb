"""How codes are held in tensors."""

import torch

from incref.formats import ElementFormat, IntFormat

__all__ = ["code_dtype"]


def code_dtype(fmt: ElementFormat) -> torch.dtype:
    """Dtype of the codes of `fmt`: uint8 for up to 8 bits (int8 if two's complement), int16 up to 16, int32 up to 32.

    Raises:
        ValueError: for float64, which is a source of conversions only.
    """
    if isinstance(fmt, IntFormat) and fmt.is_signed and fmt.bits <= 8:
        return torch.int8
    for bits, dtype in ((8, torch.uint8), (16, torch.int16), (32, torch.int32)):
        if fmt.bits <= bits:
            return dtype
    raise ValueError(f"{fmt.name} has codes of {fmt.bits} bits; codes of at most 32 bits can be held")
