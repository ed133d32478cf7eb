"""Faults of `fp8_matmul`."""

import torch
from torch import Tensor

from conformance.faults.products import (
    H100,
    Backwards,
    Bfloat16,
    ColumnsUnwritten,
    Directed,
    DoubleRounded,
    Float16Accumulator,
    Fused,
    LastDropped,
    NanSwallowed,
    PairwiseSums,
    Product,
    TileSkipped,
    TileTwice,
    Truncating,
)
from conformance.faults.spread import spread
from incref.conformance.declared import AnyGroups, AnyOrder
from incref.formats import FORMATS, FloatFormat, Rounding, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import decode


class Fp8(Product):
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


class Fp8Pairwise(PairwiseSums, Fp8):
    """Adds neighbours, level by level."""

    is_right = True


class Fp8Fused(Fused, Fp8):
    """Multiplies and adds with one rounding."""

    is_right = True


class Fp8Backwards(Backwards, Fp8):
    """Adds products from the last to the first."""

    is_right = True


class Fp8Truncating(Truncating, Fp8):
    """Cuts off every group of 32 products to 14 bits, as an H100 does, and declares it."""

    is_right = True
    accumulator = AnyGroups(group=32, fraction_bits=13, result_bits=13)


class Fp8TruncatingInFull(Truncating, Fp8):
    """The same, declared by its model in full."""

    is_right = True
    accumulator = H100


class Fp8Bfloat16Declared(Bfloat16, Fp8):
    """Rounds every sum to bfloat16, and declares so."""

    is_right = True
    accumulator = AnyOrder(fraction_bits=7)


class Fp8LastDropped(LastDropped, Fp8):
    """The loop over K ends one too early."""


class Fp8TileTwice(TileTwice, Fp8):
    """The second tile of K is counted twice."""


class Fp8TileSkipped(TileSkipped, Fp8):
    """The second tile of K is skipped."""


class Fp8Truncates(Truncating, Fp8):
    """The accumulator keeps 14 bits, and float32 is declared."""

    source = "DeepSeek-V3, arXiv 2412.19437, 3.3.2: about 14 bits on H800"


class Fp8SumsDown(Directed, Fp8):
    """Sums are rounded down, as a cut of two's complements does, and the nearest is declared."""

    rounding = Rounding.TOWARD_NEGATIVE


class Fp8Bfloat16Accumulator(Bfloat16, Fp8):
    """Sums are kept in bfloat16, and float32 is declared."""


class Fp8Float16Accumulator(Float16Accumulator, Fp8):
    """Sums are kept in float16, and float32 is declared."""


class Fp8DoubleRounded(DoubleRounded, Fp8):
    """The result is rounded to another half on its way to its dtype."""


class Fp8ColumnsUnwritten(ColumnsUnwritten, Fp8):
    """Columns after the last whole vector are masked out of the store."""


class Fp8NanSwallowed(NanSwallowed, Fp8):
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
