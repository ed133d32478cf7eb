"""Blocks with a power-of-two scale: shared exponents and elements, on bit patterns alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.formats import BlockFormat, BlockRule, FloatFormat, NanRule, Overflow, Rounding, ScaleRule
from incref.numerics.checks import is_eager
from incref.numerics.chunks import Slices, chunk_slices
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.patterns import Patterns, patterns_of, widen
from incref.numerics.scales import scale_codes, scale_exponent
from incref.numerics.tabulated import CodeTable

__all__ = [
    "BlockSpecials",
    "BlockState",
    "block_pieces",
    "block_state",
    "encode_mx_blocks",
    "nan_element_code",
    "supports_table",
]

# Dividing by 2**-100, what is below the normal numbers stays below half the smallest positive value of every element
# format; E5M2 has the least, 2**-16.
_LEAST_TABLE_EXPONENT = -100


@dataclass(frozen=True, kw_only=True)
class BlockSpecials:
    """What NaN and Inf do to the block that they stand in."""

    nan: BlockRule
    inf: BlockRule

    @property
    def are_nan_blocks(self) -> bool:
        """Whether both make the block NaN, so that no block holds finite and special elements side by side."""
        return self.nan is BlockRule.NAN_BLOCK and self.inf is BlockRule.NAN_BLOCK


@dataclass(frozen=True, kw_only=True)
class BlockState:
    """What the scale of every block depends on.

    Attributes:
        amax: largest finite magnitude pattern.
        is_nan: whether the scale is NaN.
        is_top: whether the scale is its greatest finite value; None for nowhere.
    """

    amax: Tensor
    is_nan: Tensor
    is_top: Tensor | None


def block_pieces(x: Tensor) -> Iterator[Slices]:
    """Cover blocks [..., blocks, block_size] with pieces of whole blocks."""
    return chunk_slices(x.shape[:-1], (1,) * (x.ndim - 1), x.shape[-1] * max(x.itemsize, 4))


def block_state(x: Tensor, specials: BlockSpecials) -> BlockState:
    """Look through blocks that lie along the last dimension of `x`, which has elements."""
    inf = patterns_of(x[:0]).inf
    if specials.are_nan_blocks:
        (amax,) = _map_pieces(x, lambda source: (source.magnitude.amax(-1),))
        return BlockState(amax=amax, is_nan=amax >= inf, is_top=None)
    amax, has_nan, has_inf = _map_pieces(
        x,
        lambda source: (
            torch.where(source.magnitude < inf, source.magnitude, 0).amax(-1),
            (source.magnitude > inf).any(-1),
            (source.magnitude == inf).any(-1),
        ),
    )
    is_nan = torch.zeros_like(has_nan)
    is_top = torch.zeros_like(has_nan)
    for has, rule in ((has_nan, specials.nan), (has_inf, specials.inf)):
        if rule is BlockRule.NAN_BLOCK:
            is_nan = is_nan | has
        elif rule is BlockRule.SATURATE:
            is_top = is_top | has
    return BlockState(amax=amax, is_nan=is_nan, is_top=is_top)


def _map_pieces(x: Tensor, look: Callable[[Patterns], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Apply `look` to the patterns of every piece of `x`, and put together what it finds for each block."""
    found: tuple[Tensor, ...] = ()
    for part in block_pieces(x):
        seen = look(patterns_of(x[part]))
        if seen[0].shape == x.shape[:-1]:
            return seen
        found = found or tuple(one.new_empty(x.shape[:-1]) for one in seen)
        for whole, one in zip(found, seen, strict=True):
            whole[part] = one
    return found


def nan_element_code(fmt: BlockFormat) -> int:
    """Code of every element of a block whose scale is NaN: NaN where the element format has one, else +0."""
    return (fmt.element.nan_code or 0) if isinstance(fmt.element, FloatFormat) else 0


def encode_mx_blocks(
    out: Tensor,
    x: Tensor,
    fmt: BlockFormat,
    to: Encoding,
    *,
    rule: ScaleRule,
    specials: BlockSpecials,
    table: CodeTable | None,
    random_bits: Tensor | None,
) -> Tensor:
    """Encode blocks that lie along the last dimension.

    Args:
        out: where the element codes are written, in the shape of `x`. An element is `x / 2**exponent` exactly, rounded
            once.
        x: values [..., blocks, block_size], of which there are some.
        fmt: a block format whose scales are powers of two.
        to: how elements are encoded; its format is that of the elements.
        rule: one that gives powers of two.
        specials: what NaN and Inf do to a block.
        table: of the codes of float32 elements, or None.
        random_bits: for stochastic rounding, in the shape of `x`.

    Returns:
        Scale codes [..., blocks].
    """
    layout = patterns_of(x[:0]).layout
    state = block_state(x, specials)
    exponent = scale_exponent(state.amax, layout, fmt.element, rule).clamp(fmt.scale.emin, fmt.scale.emax)
    if state.is_top is not None:
        exponent = torch.where(state.is_top, fmt.scale.emax, exponent)
    if specials.are_nan_blocks and to.overflow is Overflow.SATURATE:
        # NaN is met in NaN blocks alone, whose elements are replaced below.
        to = replace(to, nan=NanRule.ZERO)
    factor = None
    if table is not None and not _needs_arithmetic(state, exponent, layout):
        factor = _reciprocal(exponent.clamp(_LEAST_TABLE_EXPONENT, -layout.emin), layout)
    # In eager mode the usual case, no NaN block at all, is spared a pass.
    has_nan_block = not is_eager() or bool(state.is_nan.any())
    for part in block_pieces(x):
        is_nan = state.is_nan[part].unsqueeze(-1)
        if factor is not None:
            assert table is not None
            table.write(out[part], widen(x[part]) * factor[part].unsqueeze(-1))
            if has_nan_block:
                out[part].masked_fill_(is_nan, nan_element_code(fmt))
            continue
        source = patterns_of(x[part])
        if to.nan is NanRule.ERROR:
            # Elements of NaN blocks must not be taken for ones that have no code.
            kept = torch.where(is_nan, 0, source.magnitude)
            source = Patterns(signed=source.signed, magnitude=kept, layout=layout)
        random = None if random_bits is None else random_bits[part]
        codes = encode_patterns(source, to, random_bits=random, exponent=exponent[part].unsqueeze(-1))
        out[part] = torch.where(is_nan, nan_element_code(fmt), codes) if has_nan_block else codes
    return scale_codes(exponent, state.is_nan, fmt.scale)


def supports_table(to: Encoding, specials: BlockSpecials) -> bool:
    """Whether quotients may be looked up: no Inf or NaN, nor the sign of a vanishing element, decides a code."""
    is_symmetric = to.rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO)
    return is_symmetric and to.overflow is Overflow.SATURATE and specials.are_nan_blocks


def _needs_arithmetic(state: BlockState, exponent: Tensor, layout: FloatFormat) -> bool:
    """Whether some block is so small that its subnormal elements matter, or so large that its reciprocal is one.

    Blocks of zeros are not, nor are those that become NaN.
    """
    is_small = (exponent < _LEAST_TABLE_EXPONENT) & (state.amax != 0)
    return bool(((is_small | (exponent > -layout.emin)) & ~state.is_nan).any())


def _reciprocal(exponent: Tensor, layout: FloatFormat) -> Tensor:
    """Make `2**-exponent`, a normal number. A product with it is exact, or below all normal numbers."""
    return ((layout.bias - exponent.to(torch.int32)) << layout.mantissa_bits).view(torch.float32)
