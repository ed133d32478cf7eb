"""Faults of `fp8_bmm`."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from conformance.faults.products import (
    Backwards,
    Bfloat16,
    DoubleRounded,
    Float16Accumulator,
    Fused,
    LastDropped,
    NanSwallowed,
    PairwiseSums,
    Product,
    TileTwice,
    Wide,
)
from incref.formats import ScaleOrder
from incref.ops import decode

_ROWS = 4


class Batch(Product):
    """Decodes, finds the matrices of every place of the result, and multiplies them one after the other."""

    op = "fp8_bmm"
    options = {"order": (ScaleOrder.PRODUCT,)}  # noqa: RUF012  # never written to
    is_right = True

    def __call__(
        self,
        x: Tensor,
        y: Tensor,
        x_scale: Tensor | None,
        y_scale: Tensor | None,
        *,
        x_fmt: str,
        y_fmt: str,
        dtype: torch.dtype = torch.float32,
        **_: object,
    ) -> Tensor:
        """Multiply."""
        lefts, rights = self.batches(decode(x, x_fmt), self.columns(decode(y, y_fmt)).mT)
        batch, rows, columns = lefts.shape[:-2], lefts.shape[-2], rights.shape[-1]
        acc = torch.zeros(batch.numel(), rows, columns)
        for place, at in enumerate(self.places(batch)):
            acc[place] = self.multiply(lefts[at], rights[at].T)
        acc = self.sums(acc, lefts).view(*batch, rows, columns)
        one = torch.ones(())
        scales = self.scales(one if x_scale is None else x_scale, one if y_scale is None else y_scale)
        return self.store(self.scaled(acc, *scales), dtype).contiguous()

    def columns(self, y: Tensor) -> Tensor:
        """The matrices of y by columns, [..., N, K]."""
        return y.mT

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both with all matrices that are multiplied, [..., M, K] and [..., K, N]."""
        batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        return x.expand(*batch, *x.shape[-2:]), y.expand(*batch, *y.shape[-2:])

    def places(self, batch: torch.Size) -> Iterator[tuple[int, ...]]:
        """Where the matrices are, in the order of the result."""
        return product(*map(range, batch))

    def sums(self, acc: Tensor, _lefts: Tensor) -> Tensor:
        """What is scaled, [batches, M, N]."""
        return acc

    def scales(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left, right

    def scaled(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * (left * right)


class BatchPairwise(PairwiseSums, Batch):
    """Adds neighbours, level by level."""

    is_right = True


class BatchFused(Fused, Batch):
    """Multiplies and adds with one rounding."""

    is_right = True


class BatchBackwards(Backwards, Batch):
    """Adds from the end of K."""

    is_right = True


class BatchWide(Wide, Batch):
    """Adds in float64 and rounds once."""

    is_right = True


class BatchFirstForAll(Batch):
    """Every matrix of x is multiplied with the first of y."""

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, right = super().batches(x, y)
        return left, right[(slice(1),) * (right.ndim - 2)].expand_as(right)


class BatchNextOfX(Batch):
    """The matrices of x are those one further in the batch."""

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, right = super().batches(x, y)
        return (left.roll(1, 0) if left.ndim > 2 else left), right


class BatchBroadcastAtTheEnd(Batch):
    """A batch of y that has fewer dimensions is put against the first ones of x."""

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        missing = x.ndim - y.ndim
        if y.ndim > 2 and missing > 0 and x.shape[: y.ndim - 2] == y.shape[:-2]:
            y = y.view(*y.shape[:-2], *(1,) * missing, *y.shape[-2:])
        return super().batches(x, y)


class BatchRepeatedInterleaved(Batch):
    """What is broadcast along the last dimension of a batch lies as along the first."""

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, right = super().batches(x, y)
        if left.ndim < 4:
            return left, right
        order = left.transpose(0, 1).reshape(left.shape)
        return order, right


class BatchRepeatedWhole(Batch):
    """A batch that broadcasts is repeated as a whole, as if only its first dimension could be missing."""

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, right = super().batches(x, y)
        return self._repeated(x, left.shape), self._repeated(y, right.shape)

    def _repeated(self, matrices: Tensor, shape: torch.Size) -> Tensor:
        flat = matrices.reshape(-1, *shape[-2:])
        return flat[torch.arange(shape[:-2].numel()) % max(len(flat), 1)].view(shape)


class BatchReadByRows(Batch):
    """Square matrices of y are read by rows, since shapes tell strides apart."""

    def columns(self, y: Tensor) -> Tensor:
        return y if y.shape[-1] == y.shape[-2] else y.mT


class BatchStridesIgnored(Batch):
    """The memory of y is read as if every matrix had been turned, whatever its strides."""

    def columns(self, y: Tensor) -> Tensor:
        return y.contiguous().view(y.mT.shape)


class BatchSumsKept(Batch):
    """Sums stay from one matrix to the next, where a row of x is all zeros."""

    def sums(self, acc: Tensor, lefts: Tensor) -> Tensor:
        is_zero = (lefts == 0).all(-1).view(acc.shape[:2])
        for place in range(1, len(acc)):
            acc[place, is_zero[place]] = acc[place - 1, is_zero[place]]
        return acc


class BatchRowsMasked(Batch):
    """Rows beyond a tile of four are left out of all matrices but the first."""

    def sums(self, acc: Tensor, _lefts: Tensor) -> Tensor:
        acc[1:, _ROWS:] = 0
        return acc


class BatchSumsNarrowed(Batch):
    """Sums are stored in bfloat16 before they are scaled."""

    def sums(self, acc: Tensor, _lefts: Tensor) -> Tensor:
        return acc.bfloat16().float()


class BatchScaleOfXTwice(Batch):
    """The scale of x stands for that of y too."""

    def scales(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left, left


class BatchScaleForgotten(Batch):
    """The scale of y is left out."""

    def scales(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left, torch.ones(())


class BatchScalesDivide(Batch):
    """The sum is divided by the scales."""

    def scaled(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc / (left * right)


class BatchScalesApart(Batch):
    """The scales are applied one after the other, where their product should be."""

    def scaled(self, acc: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return acc * left * right


class BatchLastUnwritten(Batch):
    """The last matrix of an odd number is not computed."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        found = super().store(y, dtype).clone()
        if found.ndim > 2:
            found[found.shape[0] // 2 * 2 :] = 0
        return found


class BatchLastDropped(LastDropped, Batch):
    """The loop over K ends one too early."""


class BatchTileTwice(TileTwice, Batch):
    """The second tile of K is counted twice."""


class BatchBfloat16Accumulator(Bfloat16, Batch):
    """Sums are kept in bfloat16, and float32 is declared."""


class BatchFloat16Accumulator(Float16Accumulator, Batch):
    """Sums are kept in float16, and float32 is declared."""


class BatchDoubleRounded(DoubleRounded, Batch):
    """The result is rounded to another half on its way to its dtype."""


class BatchNanSwallowed(NanSwallowed, Batch):
    """NaN becomes 0 in the epilogue."""
