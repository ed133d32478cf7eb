"""Faults of matrix products in floating point: `weight_only_matmul`, `fp8_matmul` and `mx_matmul`."""

import torch
from torch import Tensor

from conformance.faults.integers import spread
from conformance.faults.kernel import Kernel
from incref.conformance.declared import AnyGroups, AnyOrder
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, Rounding, ScaleOrder
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Aligned, Pairwise, Sequential, SplitK
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.ops import decode, dequantize_mx, encode

_TILE = 32
_H100 = Aligned(group=32, fraction_bits=13, result_bits=13)


def sequential(a: Tensor, b: Tensor) -> Tensor:
    """Add products in the order of K, in float32."""
    acc = torch.zeros(a.shape[0], b.shape[0])
    for k in range(a.shape[1]):
        acc = acc + a[:, k : k + 1] * b[:, k]
    return acc


class _Product(Kernel):
    """What the three operations share: how float32 matrices are multiplied."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return sequential(a, b)

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return y.to(dtype)


class WeightOnly(_Product):
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


class Fp8(_Product):
    """Decodes, adds products in the order of K, scales the sum, group by group."""

    op = "fp8_matmul"
    options = {"order": (ScaleOrder.PRODUCT,)}  # noqa: RUF012  # never written to
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        x_scale: Tensor | None,
        w_scale: Tensor | None,
        *,
        x_fmt: str,
        w_fmt: str,
        x_granularity: Granularity = PER_TENSOR,
        w_granularity: Granularity = PER_TENSOR,
        dtype: torch.dtype = torch.float32,
        **_: object,
    ) -> Tensor:
        """Multiply."""
        a, b = self.values(x, x_fmt), self.values(w, w_fmt)
        if x_scale is None or w_scale is None:
            return self.store(self.multiply(a, b), dtype)
        left, right = spread(x_scale, x.shape, x_granularity), spread(w_scale, w.shape, w_granularity)
        length = a.shape[1]
        step = x_granularity.block_shape(x.shape)[-1] if x_scale.ndim else length
        total: Tensor | None = None
        for start in range(0, length, step):
            part = slice(start, min(start + step, length))
            acc = self.multiply(a[:, part], b[:, part])
            at = self.scale_at(start, step, length)
            scaled = self.scale(acc, left[:, at : at + 1], right[:, at : at + 1].T)
            total = scaled if total is None else total + scaled
        assert total is not None
        return self.store(total, dtype)

    def values(self, codes: Tensor, fmt: str) -> Tensor:
        return decode(codes, fmt)

    def scale_at(self, start: int, step: int, length: int) -> int:
        return start

    def scale(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * (left * right)


class Mx(_Product):
    """Dequantizes both factors, exactly, and adds products in the order of K, in float32."""

    op = "mx_matmul"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        x_scale: Tensor,
        w_scale: Tensor,
        *,
        x_fmt: str,
        w_fmt: str,
        dtype: torch.dtype = torch.float32,
        **_: object,
    ) -> Tensor:
        """Multiply."""
        a, b = self.values(x, x_scale, x_fmt), self.values(w, w_scale, w_fmt)
        return self.store(self.multiply(a, b), dtype)

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return dequantize_mx(codes, scale, fmt)


def _model(a: Tensor, b: Tensor, model: object) -> Tensor:
    layout = float_format_of(torch.float32)
    return accumulate(a, b, layout, layout, model)


class _Pairwise:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return _model(a, b, Pairwise())


class _SplitFour:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return _model(a, b, SplitK(inner=Sequential(), parts=4))


class _Fused:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return _model(a, b, Sequential(is_fused=True))


class _Backwards:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return sequential(a.flip(1), b.flip(1))


class _Shuffled:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        order = torch.randperm(a.shape[1], generator=torch.Generator().manual_seed(a.shape[1]))
        return sequential(a[:, order], b[:, order])


class _Wide:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T + 0.0).float()


class _Tiled:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0])
        for start in range(0, a.shape[1], _TILE):
            acc = acc + (a[:, start : start + _TILE].double() @ b[:, start : start + _TILE].double().T).float()
        return acc


class _Truncating:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return _model(a, b, _H100)


class _Bfloat16:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0], dtype=torch.bfloat16)
        for k in range(a.shape[1]):
            acc = (acc.float() + a[:, k : k + 1] * b[:, k]).to(torch.bfloat16)
        return acc.float()


class WeightOnlyPairwise(_Pairwise, WeightOnly):
    """Adds neighbours, level by level."""

    is_right = True


class WeightOnlySplitFour(_SplitFour, WeightOnly):
    """Splits K in four, and adds the four sums."""

    is_right = True


class WeightOnlyShuffled(_Shuffled, WeightOnly):
    """Adds products in a random order."""

    is_right = True


class Fp8Pairwise(_Pairwise, Fp8):
    """Adds neighbours, level by level."""

    is_right = True


class Fp8Fused(_Fused, Fp8):
    """Multiplies and adds with one rounding."""

    is_right = True


class Fp8Backwards(_Backwards, Fp8):
    """Adds products from the last to the first."""

    is_right = True


class Fp8Truncating(_Truncating, Fp8):
    """Cuts off every group of 32 products to 14 bits, as an H100 does, and declares it."""

    is_right = True
    accumulator = AnyGroups(group=32, fraction_bits=13, result_bits=13)


class Fp8TruncatingInFull(_Truncating, Fp8):
    """The same, declared by its model in full."""

    is_right = True
    accumulator = _H100


class Fp8Bfloat16Declared(_Bfloat16, Fp8):
    """Rounds every sum to bfloat16, and declares so."""

    is_right = True
    accumulator = AnyOrder(fraction_bits=7)


class MxWide(_Wide, Mx):
    """Adds in float64 and rounds once."""

    is_right = True


class MxTiled(_Tiled, Mx):
    """Adds tiles of 32 exactly and these in float32."""

    is_right = True


class MxSplitFour(_SplitFour, Mx):
    """Splits K in four, and adds the four sums."""

    is_right = True


class MxFused(_Fused, Mx):
    """Multiplies and adds with one rounding."""

    is_right = True


class _LastDropped:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return super().multiply(a[:, :-1], b[:, :-1])


class _TailDropped:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        whole = a.shape[1] // _TILE * _TILE
        return super().multiply(a[:, :whole], b[:, :whole]) if whole else super().multiply(a, b)


class _TileSkipped:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        kept = torch.cat([torch.arange(min(_TILE, a.shape[1])), torch.arange(2 * _TILE, max(a.shape[1], 2 * _TILE))])
        return super().multiply(a[:, kept], b[:, kept])


class _TileTwice:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        twice = torch.arange(_TILE, min(2 * _TILE, max(a.shape[1], _TILE)))
        return super().multiply(torch.cat([a, a[:, twice]], 1), torch.cat([b, b[:, twice]], 1))


class _EdgeTwice:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        edges = torch.arange(_TILE, a.shape[1], _TILE)
        return super().multiply(torch.cat([a, a[:, edges]], 1), torch.cat([b, b[:, edges]], 1))


class _Float16Accumulator:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0], dtype=torch.float16)
        for k in range(a.shape[1]):
            acc = (acc.float() + a[:, k : k + 1] * b[:, k]).to(torch.float16)
        return acc.float()


class _Directed:
    """Adds in float32, each sum rounded down, or toward zero."""

    rounding = Rounding.TOWARD_ZERO

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0])
        for k in range(a.shape[1]):
            exact = acc.double() + (a[:, k : k + 1] * b[:, k]).double()
            acc = encode(exact, "float32", rounding=self.rounding).view(torch.float32)
        return acc


class _Tf32:
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        cut = [(one.view(torch.int32) & ~0x1FFF).view(torch.float32) for one in (a.contiguous(), b.contiguous())]
        return super().multiply(*cut)


class _ColumnsUnwritten:
    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        found = super().store(y, dtype)
        out = torch.zeros_like(found)
        whole = found.shape[1] // 4 * 4
        out[:, :whole] = found[:, :whole]
        return out


class _NotZeroed:
    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        out = torch.empty(y.shape)
        return super().store(torch.where(out.isnan(), out, y), dtype)


class _DoubleRounded:
    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return super().store(y.to(torch.bfloat16 if dtype is not torch.bfloat16 else torch.float16), dtype)


class _NanSwallowed:
    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return super().store(y.nan_to_num(0.0), dtype)


class WeightOnlyLastDropped(_LastDropped, WeightOnly):
    """The loop over K ends one too early."""


class WeightOnlyTailDropped(_TailDropped, WeightOnly):
    """What is left of K after whole tiles is not added."""


class WeightOnlyTileSkipped(_TileSkipped, WeightOnly):
    """The second tile of K is skipped."""


class WeightOnlyEdgeTwice(_EdgeTwice, WeightOnly):
    """The first element of every tile but the first is counted in the tile before, too."""


class WeightOnlyFloat16Accumulator(_Float16Accumulator, WeightOnly):
    """Sums are kept in float16, and float32 is declared."""


class WeightOnlySumsTowardZero(_Directed, WeightOnly):
    """Sums are cut off, and the nearest is declared."""


class WeightOnlyBfloat16Accumulator(_Bfloat16, WeightOnly):
    """Sums are kept in bfloat16, and float32 is declared."""


class WeightOnlyNotZeroed(_NotZeroed, WeightOnly):
    """Split-K adds to an output that nobody set to zero."""

    source = "split-K kernels with atomics on memory from an allocator"


class WeightOnlyColumnsUnwritten(_ColumnsUnwritten, WeightOnly):
    """Columns after the last whole vector are masked out of the store."""


class WeightOnlyNanSwallowed(_NanSwallowed, WeightOnly):
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

    source = "https://github.com/vllm-project/vllm: GPTQ checkpoints with desc_act"

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


class Fp8LastDropped(_LastDropped, Fp8):
    """The loop over K ends one too early."""


class Fp8TileTwice(_TileTwice, Fp8):
    """The second tile of K is counted twice."""


class Fp8TileSkipped(_TileSkipped, Fp8):
    """The second tile of K is skipped."""


class Fp8Truncates(_Truncating, Fp8):
    """The accumulator keeps 14 bits, and float32 is declared."""

    source = "DeepSeek-V3, arXiv 2412.19437, 3.3.2: about 14 bits on H800"


class Fp8SumsDown(_Directed, Fp8):
    """Sums are rounded down, as a cut of two's complements does, and the nearest is declared."""

    rounding = Rounding.TOWARD_NEGATIVE


class Fp8Bfloat16Accumulator(_Bfloat16, Fp8):
    """Sums are kept in bfloat16, and float32 is declared."""


class Fp8Float16Accumulator(_Float16Accumulator, Fp8):
    """Sums are kept in float16, and float32 is declared."""


class Fp8DoubleRounded(_DoubleRounded, Fp8):
    """The result is rounded to another half on its way to its dtype."""


class Fp8ColumnsUnwritten(_ColumnsUnwritten, Fp8):
    """Columns after the last whole vector are masked out of the store."""


class Fp8NanSwallowed(_NanSwallowed, Fp8):
    """NaN becomes 0 in the epilogue."""


class Fp8ScalesApart(Fp8):
    """The scales are applied one after the other, where their product should be."""

    def scale(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * left * right


class Fp8ScaleOfFirstGroup(Fp8):
    """All of K has the scales of its first group."""

    def scale_at(self, start: int, step: int, length: int) -> int:
        return 0


class Fp8ScaleOfNextGroup(Fp8):
    """A group gets the scales of the one after it."""

    def scale_at(self, start: int, step: int, length: int) -> int:
        return min(start + step, length - 1)


class Fp8RowScalesSwapped(Fp8):
    """Rows get the scales of the rows after them."""

    def scale(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return super().scale(acc, left.roll(1, 0), right)


class Fp8ScaleForgotten(Fp8):
    """The scale of the weight is not applied."""

    def scale(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * left


class Fp8ScaleInHalf(Fp8):
    """The product of the scales is rounded to bfloat16."""

    def scale(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * (left * right).to(torch.bfloat16).to(torch.float32)


class Fp8SubnormalsFlushed(Fp8):
    """Subnormal codes count as zero."""

    def values(self, codes: Tensor, fmt: str) -> Tensor:
        found, layout = super().values(codes, fmt), FORMATS[fmt]
        assert isinstance(layout, FloatFormat)
        return torch.where(found.abs() < layout.smallest_normal, 0 * found, found)


class Fp8NanIsNumber(Fp8):
    """The code of NaN is read as the next number."""

    def values(self, codes: Tensor, fmt: str) -> Tensor:
        return super().values(codes, fmt).nan_to_num(480.0)


class MxLastDropped(_LastDropped, Mx):
    """The loop over K ends one too early."""


class MxTailDropped(_TailDropped, Mx):
    """A last block that is not whole is not added."""


class MxTileTwice(_TileTwice, Mx):
    """The second block is counted twice."""


class MxSumsTowardZero(_Directed, Mx):
    """Sums are cut off as older matrix units do it, and the nearest is declared."""

    source = "Fasi, Higham, Mikaitis, Pranesh: PeerJ Computer Science 7:e330, 2021: the units of V100, T4 and A100"


class MxBfloat16Accumulator(_Bfloat16, Mx):
    """Sums are kept in bfloat16, and float32 is declared."""


class MxTruncates(_Truncating, Mx):
    """The accumulator keeps 14 bits, and float32 is declared."""


class MxTf32(_Tf32, Mx):
    """Both factors are cut off to TF32, which holds elements but not integers of eight bits times scales."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        found = super().values(codes, scale, fmt)
        return (found.contiguous().view(torch.int32) & ~0x7FFFF).view(torch.float32)


class MxNotZeroed(_NotZeroed, Mx):
    """Split-K adds to an output that nobody set to zero."""


class MxScaleShifted(Mx):
    """Blocks get the scales of their neighbours."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale.roll(1, -1), fmt)


class MxScaleOfFirstRow(Mx):
    """All rows have the scales of the first."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale[:1].expand_as(scale), fmt)


class MxNanScaleLost(Mx):
    """The scale 0xFF counts as 2**127."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale.clamp(max=254), fmt)


class MxScaleClamped(Mx):
    """Scales are clamped to a range of 16 binades around one."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, torch.where(scale == 255, scale, scale.clamp(119, 135)), fmt)


class MxNanSwallowed(_NanSwallowed, Mx):
    """NaN becomes 0 in the epilogue."""
