"""Steps that faults and controls of matrix products in floating point share."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import Rounding
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Aligned, Pairwise, Sequential, SplitK
from incref.numerics.patterns import float_format_of
from incref.ops import encode

_TILE = 32
H100 = Aligned(group=32, fraction_bits=13, result_bits=13)


def sequential(a: Tensor, b: Tensor) -> Tensor:
    """Add products in the order of K, in float32."""
    acc = torch.zeros(a.shape[0], b.shape[0])
    for k in range(a.shape[1]):
        acc = acc + a[:, k : k + 1] * b[:, k]
    return acc


class Product(Kernel):
    """What the three operations share: how float32 matrices are multiplied."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return sequential(a, b)

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return y.to(dtype)


def model_product(a: Tensor, b: Tensor, model: object) -> Tensor:
    """Add products as an accumulator model does, in float32."""
    layout = float_format_of(torch.float32)
    return accumulate(a, b, layout, layout, model)


class PairwiseSums:
    """Adds products in pairs."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return model_product(a, b, Pairwise())


class SplitFour:
    """Adds four parts of K apart."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return model_product(a, b, SplitK(inner=Sequential(), parts=4))


class Fused:
    """Adds every product by a fused multiply-add."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return model_product(a, b, Sequential(is_fused=True))


class Backwards:
    """Adds from the end of K."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return sequential(a.flip(1), b.flip(1))


class Shuffled:
    """Adds in a random order."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        order = torch.randperm(a.shape[1], generator=torch.Generator().manual_seed(a.shape[1]))
        return sequential(a[:, order], b[:, order])


class Wide:
    """Adds in float64 and rounds once."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T + 0.0).float()


class Tiled:
    """Adds tiles of K, each of them exactly."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0])
        for start in range(0, a.shape[1], _TILE):
            acc = acc + (a[:, start : start + _TILE].double() @ b[:, start : start + _TILE].double().T).float()
        return acc


class Truncating:
    """Adds as the matrix units of an H100 do."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return model_product(a, b, H100)


class Bfloat16:
    """Keeps sums in bfloat16."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0], dtype=torch.bfloat16)
        for k in range(a.shape[1]):
            acc = (acc.float() + a[:, k : k + 1] * b[:, k]).to(torch.bfloat16)
        return acc.float()


class LastDropped:
    """Leaves out the last product."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return super().multiply(a[:, :-1], b[:, :-1])


class TailDropped:
    """Leaves out what is beyond the last whole tile."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        whole = a.shape[1] // _TILE * _TILE
        return super().multiply(a[:, :whole], b[:, :whole]) if whole else super().multiply(a, b)


class KMaskForgotten:
    """Fills the last tile up with what follows in memory: the beginning of the next row."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        missing = -a.shape[1] % _TILE
        return super().multiply(*(torch.cat([one, one.roll(-1, 0)[:, :missing]], 1) for one in (a, b)))


class TileSkipped:
    """Leaves out the second tile."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        kept = torch.cat([torch.arange(min(_TILE, a.shape[1])), torch.arange(2 * _TILE, max(a.shape[1], 2 * _TILE))])
        return super().multiply(a[:, kept], b[:, kept])


class TileTwice:
    """Counts the second tile twice."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        twice = torch.arange(_TILE, min(2 * _TILE, max(a.shape[1], _TILE)))
        return super().multiply(torch.cat([a, a[:, twice]], 1), torch.cat([b, b[:, twice]], 1))


class EdgeTwice:
    """Counts the first product of each later tile twice."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        edges = torch.arange(_TILE, a.shape[1], _TILE)
        return super().multiply(torch.cat([a, a[:, edges]], 1), torch.cat([b, b[:, edges]], 1))


class Float16Accumulator:
    """Keeps sums in float16."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0], dtype=torch.float16)
        for k in range(a.shape[1]):
            acc = (acc.float() + a[:, k : k + 1] * b[:, k]).to(torch.float16)
        return acc.float()


class Tf32Accumulator:
    """Keeps sums in TF32, cut off."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0])
        for k in range(a.shape[1]):
            acc = ((acc + a[:, k : k + 1] * b[:, k]).view(torch.int32) & ~0x1FFF).view(torch.float32)
        return acc


class Directed:
    """Adds in float32, each sum rounded down, or toward zero."""

    rounding = Rounding.TOWARD_ZERO

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        acc = torch.zeros(a.shape[0], b.shape[0])
        for k in range(a.shape[1]):
            exact = acc.double() + (a[:, k : k + 1] * b[:, k]).double()
            acc = encode(exact, "float32", rounding=self.rounding).view(torch.float32)
        return acc


class Tf32:
    """Cuts both factors off to TF32."""

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        cut = [(one.view(torch.int32) & ~0x1FFF).view(torch.float32) for one in (a.contiguous(), b.contiguous())]
        return super().multiply(*cut)


class ColumnsUnwritten:
    """Leaves columns of the result unwritten."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        found = super().store(y, dtype)
        out = torch.zeros_like(found)
        whole = found.shape[1] // 4 * 4
        out[:, :whole] = found[:, :whole]
        return out


class NotZeroed:
    """Adds to memory that nobody set to zero."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        out = torch.empty(y.shape)
        return super().store(torch.where(out.isnan(), out, y), dtype)


class DoubleRounded:
    """Rounds to another half first."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return super().store(y.to(torch.bfloat16 if dtype is not torch.bfloat16 else torch.float16), dtype)


class NanSwallowed:
    """Makes 0 of every NaN."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return super().store(y.nan_to_num(0.0), dtype)
