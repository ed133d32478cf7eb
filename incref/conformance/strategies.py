"""Hypothesis strategies for tensors that tell implementations apart; they need the package hypothesis."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from incref.conformance.samples import all_codes, boundaries, random_patterns
from incref.formats import BlockFormat, Format, get_format
from incref.formats.table import FORMATS

__all__ = ["codes", "float_tensors", "formats", "shapes"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def formats(*, blocks: bool = False) -> st.SearchStrategy[Format]:
    """Draw element formats, or block formats."""
    return st.sampled_from([fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat) == blocks])


def shapes(block: int = 32, *, dimensions: int = 2) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes whose extents lie around multiples of a block, zero among them.

    Args:
        block: of the formats, groups or tiles that the shapes are for.
        dimensions: how many extents.
    """
    extents = sorted({0, 1, block - 1, block, block + 1, 2 * block - 1, 3 * block + 1, 7})
    return st.tuples(*(st.sampled_from(extents) for _ in range(dimensions)))


@st.composite
def float_tensors(
    draw: st.DrawFn,
    shape: Sequence[int],
    *,
    near: str | Format = "float8_e4m3fn",
    dtypes: Sequence[torch.dtype] = _DTYPES,
) -> Tensor:
    """Draw a tensor as bit patterns of one of several kinds.

    The kinds are: patterns of every exponent; values of `near`, midpoints between them, and the neighbours of both;
    powers of two; one element that is far larger than all others; all elements equal. A failing tensor shrinks by its
    kind and seed; for its elements see `incref.conformance.shrink`.

    Args:
        draw: given by hypothesis.
        shape: of the tensor.
        near: a format.
        dtypes: of which one is drawn.
    """
    fmt = get_format(near)
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    dtype = draw(st.sampled_from(list(dtypes)))
    kind = draw(st.sampled_from(["equal", "powers", "outlier", "near", "patterns"]))
    seed = draw(st.integers(0, 1 << 16))
    count = torch.Size(shape).numel()
    generator = torch.Generator().manual_seed(seed)
    if kind == "patterns":
        return random_patterns(count, dtype, seed=seed).view(tuple(shape))
    if kind == "near":
        values = boundaries(element, dtype)
        return values[torch.randint(0, values.numel(), (count,), generator=generator)].view(tuple(shape))
    if kind == "powers":
        x = 2.0 ** torch.randint(-20, 15, (count,), generator=generator).float()
    elif kind == "equal":
        x = torch.full((count,), float(torch.randn((), generator=generator)))
    else:
        x = torch.randn(count, generator=generator)
        if count:
            x[seed % count] *= 1024.0
    return x.to(dtype).view(tuple(shape))


@st.composite
def codes(draw: st.DrawFn, shape: Sequence[int], fmt: str | Format) -> Tensor:
    """Draw codes of an element format of at most 8 bits, in the dtype that `encode` gives.

    Args:
        draw: given by hypothesis.
        shape: of the tensor.
        fmt: the format.
    """
    found = get_format(fmt)
    element = found.element if isinstance(found, BlockFormat) else found
    values = all_codes(element)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 16)))
    return values[torch.randint(0, values.numel(), tuple(shape), generator=generator)]
