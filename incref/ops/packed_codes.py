"""Codes of tensors, packed as they are kept: those of fewer than 8 bits in words."""

from torch import Tensor

from incref.formats import ElementFormat
from incref.formats.layouts import PackLayout
from incref.ops.pack import pack, unpack

__all__ = ["pack_codes", "unpack_codes"]


def pack_codes(codes: Tensor, element: ElementFormat, layout: PackLayout = PackLayout.DENSE) -> Tensor:
    """Pack codes, one an element."""
    if layout is PackLayout.HPU:
        return pack(codes.T, element, layout=layout)
    if element.bits >= 8:
        return codes
    return pack(codes.reshape(codes.shape or (1,)), element, layout=layout)


def unpack_codes(
    packed: Tensor, element: ElementFormat, shape: tuple[int, ...], layout: PackLayout = PackLayout.DENSE
) -> Tensor:
    """Undo `pack_codes` of codes in `shape`."""
    if layout is PackLayout.HPU:
        return unpack(packed, element, layout=layout, length=shape[0]).T.contiguous()
    if element.bits >= 8:
        return packed
    return unpack(packed, element, layout=layout, length=shape[-1] if shape else 1).reshape(shape)
