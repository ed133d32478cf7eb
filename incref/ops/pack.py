"""`pack` and `unpack`: codes narrower than a byte to words and back."""

import torch
from torch import Tensor

from incref.formats import BlockFormat, ElementFormat, Format, IntFormat, get_format
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.checks import is_eager
from incref.numerics.codes import code_dtype
from incref.numerics.packing import pack_words, unpack_words, word_dtype
from incref.ops.contract import Arg, Exactness, op

__all__ = ["get_packed_format", "pack", "require_dimension", "require_in_range", "require_words", "unpack"]


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(Arg(name="codes", dtype="uint8 or int8", shape="any but ()"),),
    results=(Arg(name="packed", dtype="uint8 or int32", shape="that of codes but along axis"),),
)
def pack(codes: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1) -> Tensor:
    """Pack codes of at most 8 bits into words along `axis`.

    Args:
        codes: codes of `fmt`, one a byte: uint8, or int8 for signed integers; any shape and strides.
        fmt: a format, or its name; of a block format, its elements.
        layout: which bits of which word each code becomes.
        axis: the dimension that becomes one of words.

    Returns:
        Words, uint8 or int32, in the shape of `codes` except for `axis`, where there are the fewest that hold all.
        Bits that no code owns are 0. A signed code becomes the low bits of its two's complement.

    Raises:
        TypeError: if `codes` has another dtype, or `layout` is not a `PackLayout`.
        ValueError: if a code is outside the range of `fmt` (not checked while `torch.compile` traces); if `layout` is
            not defined for codes of that format; if `axis` is not a dimension.

    Source: `PackLayout` has the formula of each layout.

    >>> pack(torch.tensor([1, 2, 3], dtype=torch.uint8), "uint4", layout=PackLayout.BYTES)
    tensor([33,  3], dtype=torch.uint8)
    """
    element = get_packed_format(fmt, layout)
    if codes.dtype is not code_dtype(element):
        raise TypeError(f"codes of {element.name} must be {code_dtype(element)}, got {codes.dtype}")
    axis = require_dimension(codes, axis)
    require_in_range(codes, element)
    unsigned = codes.view(torch.uint8) & (element.num_codes - 1)
    return pack_words(unsigned, element.bits, layout=LAYOUTS[layout], axis=axis)


@op(
    version="1.0",
    exactness=Exactness.E0,
    args=(Arg(name="packed", dtype="uint8 or int32", shape="any but ()"),),
    results=(Arg(name="codes", dtype="uint8 or int8", shape="that of packed but along axis"),),
)
def unpack(packed: Tensor, fmt: str | Format, *, layout: PackLayout, axis: int = -1, length: int) -> Tensor:
    """Take the codes out of the words that `pack` made.

    Args:
        packed: words, uint8 or int32 as `layout` says; any shape and strides.
        fmt: a format, or its name; of a block format, its elements.
        layout: which bits of which word each code is.
        axis: the dimension of words.
        length: how many codes there are along `axis`.

    Returns:
        Codes, one a byte: uint8, or int8 with the sign extended for signed integers, with `length` along `axis`.
        Bits that no code owns are ignored.

    Raises:
        TypeError: if `packed` has another dtype, or `layout` is not a `PackLayout`.
        ValueError: if there are more or fewer words along `axis` than `length` codes take; if `layout` is not defined
            for codes of that format; if `axis` is not a dimension.

    Source: `PackLayout` has the formula of each layout.

    >>> unpack(torch.tensor([33, 3], dtype=torch.uint8), "uint4", layout=PackLayout.BYTES, length=3)
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    element = get_packed_format(fmt, layout)
    axis = require_dimension(packed, axis)
    require_words(packed, element, layout, axis, length)
    codes = unpack_words(packed, element.bits, layout=LAYOUTS[layout], axis=axis, length=length)
    if code_dtype(element) is torch.uint8:
        return codes
    unused = 8 - element.bits
    return (codes << unused).view(torch.int8) >> unused


def get_packed_format(fmt: str | Format, layout: PackLayout) -> ElementFormat:
    """Look up the format of the codes and check that `layout` is defined for it."""
    if not isinstance(layout, PackLayout):
        raise TypeError(f"layout must be a PackLayout, got {layout!r}")
    found = get_format(fmt)
    element = found.element if isinstance(found, BlockFormat) else found
    facts = LAYOUTS[layout]
    if element.bits not in facts.code_bits:
        allowed = ", ".join(map(str, facts.code_bits))
        raise ValueError(f"{layout.name} packs codes of {allowed} bits, got {element.name} with {element.bits}")
    if facts.offset and not (isinstance(element, IntFormat) and not element.is_signed):
        raise ValueError(f"{layout.name} packs zero points, which are unsigned integers, got {element.name}")
    return element


def require_words(packed: Tensor, element: ElementFormat, layout: PackLayout, axis: int, length: int) -> None:
    """Check that `packed` holds `length` codes along `axis`.

    Raises:
        TypeError: for another dtype than that of the words.
        ValueError: for more or fewer words.
    """
    facts = LAYOUTS[layout]
    if packed.dtype is not word_dtype(facts):
        raise TypeError(f"words of {layout.name} must be {word_dtype(facts)}, got {packed.dtype}")
    if length < 0 or packed.shape[axis] != facts.num_words(element.bits, length):
        raise ValueError(
            f"{length} codes of {element.bits} bits take {facts.num_words(element.bits, max(length, 0))} words of "
            f"{layout.name}, got {packed.shape[axis]} along axis {axis}"
        )


def require_dimension(x: Tensor, axis: int) -> int:
    """Count `axis` from the first dimension; ValueError if it is none."""
    if not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis must be a dimension of the tensor, which has {x.dim()}, got {axis}")
    return axis % x.dim()


def require_in_range(codes: Tensor, fmt: ElementFormat) -> None:
    """Raise ValueError if a code is outside the range of `fmt`; not while `torch.compile` traces."""
    if fmt.bits == 8 or codes.numel() == 0 or not is_eager() or codes.is_meta:
        return
    low, high = (fmt.min_code, fmt.max_code) if isinstance(fmt, IntFormat) else (0, fmt.num_codes - 1)
    least, greatest = (int(end) for end in codes.aminmax())
    if least < low or greatest > high:
        first = codes.flatten()[((codes < low) | (codes > high)).flatten()][0].item()
        raise ValueError(f"codes of {fmt.name} must be from {low} to {high}, got {first}")
