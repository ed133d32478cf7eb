"""Blocks with a power-of-two scale: shared exponents and elements, on bit patterns alone."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.formats import BlockFormat, BlockRule, FloatFormat, NanRule, Overflow, Rounding, ScaleRule
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.patterns import Patterns
from incref.numerics.scales import scale_codes, scale_exponent
from incref.numerics.tabulated import CodeTable

__all__ = ["BlockSpecials", "BlockState", "block_state", "encode_mx_blocks", "nan_element_code", "supports_table"]

# 2**(-125 - exponent) is then below half the smallest positive value of every element format; E5M2 has the least,
# 2**-16.
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


def block_state(source: Patterns, specials: BlockSpecials) -> BlockState:
    """Look through blocks that lie along the last dimension."""
    if specials.are_nan_blocks:
        amax = source.magnitude.amax(-1)
        return BlockState(amax=amax, is_nan=amax >= source.inf, is_top=None)
    has_nan = (source.magnitude > source.inf).any(-1)
    has_inf = (source.magnitude == source.inf).any(-1)
    is_nan = torch.zeros_like(has_nan)
    is_top = torch.zeros_like(has_nan)
    for has, rule in ((has_nan, specials.nan), (has_inf, specials.inf)):
        if rule is BlockRule.NAN_BLOCK:
            is_nan = is_nan | has
        elif rule is BlockRule.SATURATE:
            is_top = is_top | has
    finite = torch.where(source.magnitude < source.inf, source.magnitude, 0)
    return BlockState(amax=finite.amax(-1), is_nan=is_nan, is_top=is_top)


def nan_element_code(fmt: BlockFormat) -> int:
    """Code of every element of a block whose scale is NaN: NaN where the element format has one, else +0."""
    return (fmt.element.nan_code or 0) if isinstance(fmt.element, FloatFormat) else 0


def encode_mx_blocks(
    source: Patterns,
    fmt: BlockFormat,
    to: Encoding,
    *,
    rule: ScaleRule,
    specials: BlockSpecials,
    table: CodeTable | None,
    random_bits: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Encode blocks that lie along the last dimension.

    Args:
        source: patterns [..., blocks, block_size].
        fmt: a block format whose scales are powers of two.
        to: how elements are encoded; its format is that of the elements.
        rule: one that gives powers of two.
        specials: what NaN and Inf do to a block.
        table: of the elements' codes, for blocks of binary32, or None.
        random_bits: for stochastic rounding, in the shape of `source`.

    Returns:
        Element codes [..., blocks, block_size] and scale codes [..., blocks]. An element is `x / 2**exponent` exactly,
        rounded once.
    """
    state = block_state(source, specials)
    exponent = scale_exponent(state.amax, source.layout, fmt.element, rule).clamp(fmt.scale.emin, fmt.scale.emax)
    if state.is_top is not None:
        exponent = torch.where(state.is_top, fmt.scale.emax, exponent)
    if specials.are_nan_blocks and to.overflow is Overflow.SATURATE:
        # NaN is met in NaN blocks alone, whose elements are replaced below.
        to = replace(to, nan=NanRule.ZERO)
    elif to.nan is NanRule.ERROR:
        # Elements of NaN blocks must not be taken for ones that have no code.
        kept = torch.where(state.is_nan.unsqueeze(-1), 0, source.magnitude)
        source = Patterns(signed=source.signed, magnitude=kept, layout=source.layout)
    if table is not None and not _needs_arithmetic(state.amax, exponent):
        codes = _look_up_elements(source, exponent.clamp(min=_LEAST_TABLE_EXPONENT).unsqueeze(-1), table)
    else:
        codes = encode_patterns(source, to, random_bits=random_bits, exponent=exponent.unsqueeze(-1))
    # In eager mode the usual case, no NaN block at all, is spared a pass.
    if torch.compiler.is_compiling() or bool(state.is_nan.any()):
        codes = torch.where(state.is_nan.unsqueeze(-1), nan_element_code(fmt), codes)
    return codes, scale_codes(exponent, state.is_nan, fmt.scale)


def supports_table(to: Encoding, specials: BlockSpecials) -> bool:
    """Whether quotients may be looked up: no Inf or NaN, nor the sign of a vanishing element, decides a code."""
    is_symmetric = to.rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO)
    return is_symmetric and to.overflow is Overflow.SATURATE and specials.are_nan_blocks


def _needs_arithmetic(amax: Tensor, exponent: Tensor) -> bool:
    """Whether some block is so small that its subnormal elements matter; blocks of zeros are not."""
    return bool(((exponent < _LEAST_TABLE_EXPONENT) & (amax != 0)).any())


def _look_up_elements(source: Patterns, exponent: Tensor, table: CodeTable) -> Tensor:
    """Look up the codes of `x / 2**exponent` for exponents of at least `_LEAST_TABLE_EXPONENT`."""
    # Dividing a normal number by 2**exponent takes that from the exponent field. What leaves the field below, and what
    # this makes of zeros and subnormals, is less than 2**(-125 - _LEAST_TABLE_EXPONENT): it rounds to zero.
    quotient = (source.magnitude - (exponent << source.layout.mantissa_bits)).clamp_(min=0)
    return table.of_patterns(quotient, source.signed)
