"""Blocks that lie along a tile, and their scales: found and used in one step."""

from dataclasses import dataclass

from torch import Tensor

from incref.formats import ElementFormat, ScaleRule, SymmetricScale
from incref.numerics.patterns import patterns_of
from incref.numerics.scaled import compute_dtype
from incref.ops.compute_scale import scale_of_amax
from incref_kernels.cpu.tiles.scaled import ScaledEncoding, fake_quantize_scaled_tile, quantize_scaled_tile

__all__ = ["Finding", "fake_quantize_found_tile", "find_scale_tile", "quantize_found_tile"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The options of `compute_scale`.

    Attributes:
        fmt: of the elements.
        rule: from the largest magnitude to the scale.
        symmetric: whether there is no zero point.
        symmetric_scale: which magnitude goes where.
    """

    fmt: ElementFormat
    rule: ScaleRule
    symmetric: bool = True
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX


def find_scale_tile(x: Tensor, *, find: Finding, dim: int) -> Tensor | tuple[Tensor, Tensor]:
    """Compute the scale, and the zero point if there is one, of every block along `dim`."""
    return scale_of_amax(
        lambda select: select(patterns_of(x)).amax(dim, keepdim=True),
        find.fmt,
        compute_dtype(x.dtype),
        rule=find.rule,
        symmetric=find.symmetric,
        symmetric_scale=find.symmetric_scale,
    )


def quantize_found_tile(
    x: Tensor, *random_bits: Tensor, how: ScaledEncoding, find: Finding, dim: int
) -> tuple[Tensor, ...]:
    """Quantize blocks along `dim`: codes, scales, and zero points if there are any."""
    scales = _scales(x, find, dim)
    return (quantize_scaled_tile(x, *scales, *random_bits, how=how), *scales)


def fake_quantize_found_tile(x: Tensor, *random_bits: Tensor, how: ScaledEncoding, find: Finding, dim: int) -> Tensor:
    """Quantize blocks along `dim` and dequantize them."""
    return fake_quantize_scaled_tile(x, *_scales(x, find, dim), *random_bits, how=how)


def _scales(x: Tensor, find: Finding, dim: int) -> tuple[Tensor, ...]:
    found = find_scale_tile(x, find=find, dim=dim)
    return found if isinstance(found, tuple) else (found,)
