"""Faults of `fp8_matmul`."""

from dataclasses import replace
from typing import ClassVar

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
from incref.backends.declared import AnyGroups, AnyOrder
from incref.formats import FORMATS, FloatFormat, Rounding, ScaleOrder
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Accumulator, Carry
from incref.numerics.accumulate.table import find_accumulator
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops import decode
from incref.ops.quantize_float import get_float_format


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
        layouts = (get_float_format(x_fmt), get_float_format(w_fmt))
        if x_scale is None or w_scale is None:
            return self.store(self.sums(a, b, *layouts), dtype)
        length = a.shape[1]
        if not length:
            return self.of_nothing(a.shape[0], b.shape[0], dtype)
        left, right = spread(x_scale, x.shape, x_granularity), spread(w_scale, w.shape, w_granularity)
        step = x_granularity.block_shape(x.shape)[-1] if x_scale.ndim else length
        total: Tensor | None = None
        for start in range(0, length, step):
            part = slice(start, min(start + step, length))
            acc = self.sums(a[:, part], b[:, part], *layouts)
            at = self.scale_at(start, step, length)
            scaled = self.scale(acc, left[:, at : at + 1], right[:, at : at + 1].T)
            total = scaled if total is None else total + scaled
        assert total is not None
        return self.store(total, dtype)

    def values(self, codes: Tensor, fmt: str) -> Tensor:
        return decode(codes, fmt)

    def of_nothing(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(rows, columns, dtype=dtype)

    def sums(self, a: Tensor, b: Tensor, _x_fmt: FloatFormat, _w_fmt: FloatFormat) -> Tensor:
        return self.multiply(a, b)

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


class _InFull(Fp8):
    """Adds by a model, and declares the model of an H100 in full."""

    model: ClassVar[Accumulator] = H100
    accumulator = H100

    def sums(self, a: Tensor, b: Tensor, x_fmt: FloatFormat, w_fmt: FloatFormat) -> Tensor:
        return accumulate(a, b, x_fmt, w_fmt, self.model)


class Fp8TruncatingInFull(_InFull):
    """Cuts off every group of 32 products as an H100 does, and declares its model in full."""

    is_right = True


class Fp8AdaInFull(_InFull):
    """Cuts off every group of 16 products as an Ada GPU does, and declares its model in full."""

    is_right = True
    model = accumulator = find_accumulator("ada_mma_fp8")


class Fp8GroupsOfSixteen(_InFull):
    """Groups of 32 products are declared in full, and 16 are aligned at once."""

    model = replace(H100, group=16)


class Fp8ResultToNearest(_InFull):
    """Sums of groups are rounded to nearest, and declared in full to be cut off."""

    model = replace(H100, result_rounding=Rounding.NEAREST_EVEN)


class Fp8OneBitMore(_InFull):
    """Terms keep one bit more than the model that is declared in full."""

    model = replace(H100, fraction_bits=14)


class Fp8CarryAdded(_InFull):
    """What is carried is added to a group, and declared in full to be aligned with it."""

    model = replace(H100, carry=Carry.ADDED)


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


class Fp8NothingUnwritten(Fp8):
    """Without anything to add the kernel is not launched, and the output keeps the NaN that memory had."""

    def of_nothing(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        return torch.full((rows, columns), torch.nan, dtype=dtype)


class Fp8ScaledBefore(Fp8):
    """Values are scaled before they are multiplied, and not their sums."""

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
        if x_scale is not None and w_scale is not None:
            a = a * spread(x_scale, x.shape, x_granularity)
            b = b * spread(w_scale, w.shape, w_granularity)
        return self.store(self.multiply(a, b), dtype)


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
