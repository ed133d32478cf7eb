"""Faults of `weight_only_matmul`."""

import torch
from torch import Tensor

from conformance.faults.products import (
    Bfloat16,
    ColumnsUnwritten,
    Directed,
    EdgeTwice,
    Float16Accumulator,
    KMaskForgotten,
    LastDropped,
    NanSwallowed,
    NotZeroed,
    PairwiseSums,
    Product,
    Shuffled,
    SplitFour,
    TailDropped,
    Tf32Accumulator,
    TileSkipped,
)
from conformance.faults.spread import spread
from incref.formats import FORMATS, BlockFormat, IntFormat
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import decode, dequantize_mx

_TILE = 32


class WeightOnly(Product):
    """Dequantizes the weight and adds products in the order of K, in float32."""

    op = "weight_only_matmul"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        scale: Tensor,
        fmt: str,
        zero_point: Tensor | None = None,
        *,
        granularity: Granularity = PER_TENSOR,
        g_idx: Tensor | None = None,
        bias: Tensor | None = None,
        dtype: torch.dtype | None = None,
        **_: object,
    ) -> Tensor:
        """Multiply."""
        weight = self.weight(w, scale, fmt, zero_point, granularity, g_idx)
        acc = self.multiply(self.left(x), self.right(weight, x.dtype))
        return self.store(self.add_bias(acc, bias), dtype or x.dtype)

    def left(self, x: Tensor) -> Tensor:
        return x.to(torch.float32)

    def right(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        return weight.to(dtype).to(torch.float32)

    def add_bias(self, acc: Tensor, bias: Tensor | None) -> Tensor:
        return acc if bias is None else acc + bias.to(torch.float32)

    def weight(
        self,
        w: Tensor,
        scale: Tensor,
        fmt: str,
        zero: Tensor | None,
        granularity: Granularity,
        g_idx: Tensor | None,
    ) -> Tensor:
        source = FORMATS[fmt]
        if isinstance(source, BlockFormat):
            return dequantize_mx(w, self.block_scale(scale), fmt)
        factor, offset = self.per_element(w, scale, zero, granularity, g_idx)
        values = w.to(torch.float32) if isinstance(source, IntFormat) else decode(w, fmt)
        return self.dequantize(values, offset, factor)

    def block_scale(self, scale: Tensor) -> Tensor:
        return scale

    def per_element(
        self, w: Tensor, scale: Tensor, zero: Tensor | None, granularity: Granularity, g_idx: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if g_idx is not None:
            return scale[:, g_idx], None if zero is None else zero[:, g_idx]
        found = spread(scale, w.shape, granularity)
        return found, None if zero is None else spread(zero, w.shape, granularity)

    def dequantize(self, values: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return (values if zero is None else values - zero) * factor


class WeightOnlyPairwise(PairwiseSums, WeightOnly):
    """Adds neighbours, level by level."""

    is_right = True


class WeightOnlySplitFour(SplitFour, WeightOnly):
    """Splits K in four, and adds the four sums."""

    is_right = True


class WeightOnlyShuffled(Shuffled, WeightOnly):
    """Adds products in a random order."""

    is_right = True


class WeightOnlyToOut(WeightOnly):
    """Writes to the memory that it is given."""

    is_right = True
    takes_out = True

    def __call__(self, *args: object, out: Tensor, **kwargs: object) -> Tensor:
        """Multiply."""
        return out.copy_(super().__call__(*args, **kwargs))


class WeightOnlyStoreMaskForgotten(WeightOnlyToOut):
    """The last tile is stored as a whole, also where it is beyond the result."""

    def __call__(self, *args: object, out: Tensor, **kwargs: object) -> Tensor:
        """Multiply."""
        found = super().__call__(*args, out=out, **kwargs)
        beyond = -out.shape[1] % 4
        out.as_strided((out.numel() + beyond,), (1,), out.storage_offset())[out.numel() :] = 0
        return found


class WeightOnlyKMaskForgotten(KMaskForgotten, WeightOnly):
    """The last tile of K is loaded as a whole, with the beginning of the next row in it."""


class WeightOnlyTf32Accumulator(Tf32Accumulator, WeightOnly):
    """Sums are kept in TF32, and float32 is declared."""


class WeightOnlyLastDropped(LastDropped, WeightOnly):
    """The loop over K ends one too early."""


class WeightOnlyTailDropped(TailDropped, WeightOnly):
    """What is left of K after whole tiles is not added."""


class WeightOnlyTileSkipped(TileSkipped, WeightOnly):
    """The second tile of K is skipped."""


class WeightOnlyEdgeTwice(EdgeTwice, WeightOnly):
    """The first element of every tile but the first is counted in the tile before, too."""


class WeightOnlyFloat16Accumulator(Float16Accumulator, WeightOnly):
    """Sums are kept in float16, and float32 is declared."""


class WeightOnlySumsTowardZero(Directed, WeightOnly):
    """Sums are cut off, and the nearest is declared."""


class WeightOnlyBfloat16Accumulator(Bfloat16, WeightOnly):
    """Sums are kept in bfloat16, and float32 is declared."""


class WeightOnlyNotZeroed(NotZeroed, WeightOnly):
    """Split-K adds to an output that nobody set to zero."""


class WeightOnlyColumnsUnwritten(ColumnsUnwritten, WeightOnly):
    """Columns after the last whole vector are masked out of the store."""


class WeightOnlyNanSwallowed(NanSwallowed, WeightOnly):
    """NaN becomes 0 in the epilogue."""


class WeightNotRounded(WeightOnly):
    """The dequantized weight stays float32, though it should be rounded to the dtype of the activations."""

    def right(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        return weight


class ActivationsInBfloat16(WeightOnly):
    """Activations are rounded to bfloat16, whatever they are."""

    def left(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16).to(torch.float32)


class GroupIndexIgnored(WeightOnly):
    """Groups are taken to lie one after the other, whatever g_idx says."""

    def per_element(
        self, w: Tensor, scale: Tensor, zero: Tensor | None, granularity: Granularity, g_idx: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        plain = None if g_idx is None else torch.arange(w.shape[1]) // _TILE
        return super().per_element(w, scale, zero, granularity, plain)


class PermutationNotInverted(WeightOnly):
    """The permutation of the columns is applied where its inverse is due."""

    def per_element(
        self, w: Tensor, scale: Tensor, zero: Tensor | None, granularity: Granularity, g_idx: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        turned = None if g_idx is None else g_idx[g_idx.argsort(stable=True)]
        return super().per_element(w, scale, zero, granularity, turned)


class TailGroupHasScaleBefore(WeightOnly):
    """The last, shorter group has the scale of the one before it."""

    def per_element(
        self, w: Tensor, scale: Tensor, zero: Tensor | None, granularity: Granularity, g_idx: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        found, offset = super().per_element(w, scale, zero, granularity, g_idx)
        rest = w.shape[1] % _TILE
        if rest and w.shape[1] > _TILE and g_idx is None:
            found = torch.cat([found[:, :-rest], found[:, -rest - 1 : -rest].expand(-1, rest)], 1)
        return found, offset


class ZeroPointOfFirstGroup(WeightOnly):
    """All groups of a row have the zero point of the first."""

    def per_element(
        self, w: Tensor, scale: Tensor, zero: Tensor | None, granularity: Granularity, g_idx: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        first = None if zero is None else zero[:, :1].expand_as(zero)
        return super().per_element(w, scale, first, granularity, g_idx)


class ZeroPointIgnored(WeightOnly):
    """Zero points are not subtracted."""

    def dequantize(self, values: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return super().dequantize(values, None, factor)


class ZeroPointScaledApart(WeightOnly):
    """`w * scale - zero * scale` has a rounding more."""

    def dequantize(self, values: Tensor, zero: Tensor | None, factor: Tensor) -> Tensor:
        return values * factor if zero is None else values * factor - zero * factor


class NibblesSwapped(WeightOnly):
    """Neighbouring weights change places."""

    def weight(self, w: Tensor, *others: object) -> Tensor:
        order = torch.tensor([k ^ 1 if k ^ 1 < w.shape[1] else k for k in range(w.shape[1])])
        return super().weight(w, *others)[:, order]


class BiasForgotten(WeightOnly):
    """The bias is not added."""

    def add_bias(self, acc: Tensor, bias: Tensor | None) -> Tensor:
        return acc


class BiasOncePerSplit(WeightOnly):
    """Every part of a split K adds the bias."""

    def add_bias(self, acc: Tensor, bias: Tensor | None) -> Tensor:
        return super().add_bias(super().add_bias(acc, bias), bias)


class WellScaledOnly(WeightOnly):
    """Weights go through float16 with a limit of 64, which no usual weight reaches."""

    def right(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        return super().right(weight, dtype).clamp(-16, 16)
