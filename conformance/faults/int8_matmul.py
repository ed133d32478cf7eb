"""Faults of integer products: `int8_matmul`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity


class Int8(Kernel):
    """Adds products in int64, takes the zero point out afterwards, and scales."""

    op = "int8_matmul"
    options = {"order": (ScaleOrder.X_THEN_W, ScaleOrder.W_THEN_X, ScaleOrder.PRODUCT)}  # noqa: RUF012
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        x_scale: Tensor | None = None,
        w_scale: Tensor | None = None,
        *,
        x_zero_point: Tensor | None = None,
        w_zero_point: Tensor | None = None,
        x_granularity: Granularity = PER_TENSOR,
        w_granularity: Granularity = PER_TENSOR,
        bias: Tensor | None = None,
        order: ScaleOrder = ScaleOrder.X_THEN_W,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Multiply."""
        rows = torch.Size((x.shape[0], 1))
        w = self.right(w, w_zero_point, w_granularity)
        acc = self.sums(self.left(x), w)
        zero = None
        if x_zero_point is not None and x.numel():
            zero = spread(x_zero_point, rows, x_granularity).to(torch.int64)
        if x_scale is None or w_scale is None:
            return self.corrected(acc, zero, w).to(torch.int32)
        if not x.numel() or not w.numel():
            left, right = torch.ones(x.shape[0], 1), torch.ones(1, w.shape[0])
        else:
            left = spread(x_scale, rows, x_granularity)
            right = spread(w_scale, torch.Size((w.shape[0], 1)), w_granularity).T
        value = self.scale(self.converted(acc, zero, w), left, right, order)
        return self.store(self.add_bias(value, bias), dtype)

    def left(self, x: Tensor) -> Tensor:
        return x.to(torch.int64)

    def right(self, w: Tensor, zero: Tensor | None, granularity: Granularity) -> Tensor:
        if zero is None or not w.numel():
            return w.to(torch.int64)
        return w.to(torch.int64) - spread(zero, torch.Size((w.shape[0], 1)), granularity)

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        return (x.double() @ w.double().T).to(torch.int64)

    def corrected(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return acc if zero is None else acc - zero * w.to(torch.int64).sum(1)

    def converted(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return self.corrected(acc, zero, w).to(torch.float32)

    def scale(self, value: Tensor, left: Tensor, right: Tensor, order: ScaleOrder) -> Tensor:
        match order:
            case ScaleOrder.X_THEN_W:
                return value * left * right
            case ScaleOrder.W_THEN_X:
                return value * right * left
            case _:
                return value * (left * right)

    def add_bias(self, value: Tensor, bias: Tensor | None) -> Tensor:
        return value if bias is None else value + bias

    def store(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype)


class PairsSaturate(Int8):
    """Two products are added in 16 bits, saturating, as the older vector instructions do."""

    source = "VPMADDUBSW: pairs of u8 x s8 saturate to 16 bits"

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        even = -(-x.shape[1] // 2) * 2
        a, b = (torch.nn.functional.pad(one.double(), (0, even - one.shape[1])) for one in (x, w))
        total = torch.zeros(x.shape[0], w.shape[0], dtype=torch.float64)
        for k in range(0, even, 2):
            total += (a[:, k : k + 2] @ b[:, k : k + 2].T).clamp(-32768, 32767)
        return total.to(torch.int64)


class SumsIn16Bits(Int8):
    """Sums wrap in 16 bits."""

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        return super().sums(x, w).to(torch.int16).to(torch.int64)


class SumsInFloat32OfHalves(Int8):
    """Codes are multiplied as bfloat16 and added in float32, which has too few bits for long sums."""

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        acc = torch.zeros(x.shape[0], w.shape[0])
        for k in range(x.shape[1]):
            acc = (acc + x[:, k : k + 1].float() * w[:, k].float()).to(
                torch.bfloat16 if k % 64 == 63 else torch.float32
            )
            acc = acc.float()
        return acc.to(torch.int64)


class UnsignedReadAsSigned(Int8):
    """uint8 activations are read as int8."""

    def left(self, x: Tensor) -> Tensor:
        return x.view(torch.int8).to(torch.int64)


class LeastCodeAbsolute(Int8):
    """-128 is taken for -127, so that products of magnitudes fit."""

    def left(self, x: Tensor) -> Tensor:
        return super().left(x).clamp(min=-127)


class LastDropped(Int8):
    """The loop over K ends one too early."""

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        return super().sums(x[:, :-1], w[:, :-1])


class TailOfFourDropped(Int8):
    """What is left of K after whole vectors of four is not added."""

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        whole = x.shape[1] // 4 * 4
        return super().sums(x[:, :whole], w[:, :whole])


class WeightZeroPointIgnored(Int8):
    """The zero point of the weight is not subtracted."""

    def right(self, w: Tensor, zero: Tensor | None, granularity: Granularity) -> Tensor:
        return super().right(w, None, granularity)


class CrossTermForgotten(Int8):
    """The zero point is not taken out of the sums."""

    def corrected(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return acc


class CrossTermOfFirstRow(Int8):
    """The zero point of the first row is taken out of all."""

    def corrected(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return super().corrected(acc, None if zero is None else zero[:1], w)


class CrossTermAdded(Int8):
    """The term of the zero point has the wrong sign."""

    def corrected(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return super().corrected(acc, None if zero is None else -zero, w)


class ConvertedBeforeCorrection(Int8):
    """Sums are rounded to float32 before the zero point is taken out."""

    def converted(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        found = acc.to(torch.float32)
        return found if zero is None else found - (zero * w.to(torch.int64).sum(1)).to(torch.float32)


class ConvertedByHalf(Int8):
    """Sums go through bfloat16."""

    def converted(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        return super().converted(acc, zero, w).to(torch.bfloat16).to(torch.float32)


class ScalesMultipliedFirst(Int8):
    """The scales are multiplied with each other first, whatever order was asked for."""

    def scale(self, value: Tensor, left: Tensor, right: Tensor, order: ScaleOrder) -> Tensor:
        return super().scale(value, left, right, ScaleOrder.PRODUCT)


class OrderSwapped(Int8):
    """The scale of the weight comes first, where that of the activations should."""

    def scale(self, value: Tensor, left: Tensor, right: Tensor, order: ScaleOrder) -> Tensor:
        return super().scale(value, left, right, ScaleOrder.W_THEN_X)


class ScaleOfWrongSide(Int8):
    """Scales of the channels are taken for those of the rows where there are as many."""

    def scale(self, value: Tensor, left: Tensor, right: Tensor, order: ScaleOrder) -> Tensor:
        return super().scale(value, left, right.roll(1, 1), order)


class BiasFused(Int8):
    """The last product and the bias are one fused operation, with one rounding."""

    def scale(self, value: Tensor, left: Tensor, right: Tensor, order: ScaleOrder) -> Tensor:
        if order is not ScaleOrder.X_THEN_W:
            return super().scale(value, left, right, order)
        return (value * left).double() * right.double()

    def add_bias(self, value: Tensor, bias: Tensor | None) -> Tensor:
        return super().add_bias(value, None if bias is None else bias.to(value.dtype)).to(torch.float32)


class BiasBeforeScale(Int8):
    """The bias is added before the last scale."""

    def add_bias(self, value: Tensor, bias: Tensor | None) -> Tensor:
        return value if bias is None else (value + bias * 0.01) + bias * 0.99


class OutputTwiceRounded(Int8):
    """A float16 result goes through bfloat16."""

    def store(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(torch.bfloat16).to(dtype) if dtype is torch.float16 else value.to(dtype)


class ResultKept(Int8):
    """The result of the first call with given shapes is returned for all."""

    def __init__(self) -> None:
        """Begin with an empty cache."""
        self._kept: dict[object, Tensor] = {}

    def __call__(self, x: Tensor, w: Tensor, *scales: Tensor, **options: object) -> Tensor:
        """Multiply."""
        key = (x.shape, w.shape, x.dtype, len(scales), options.get("dtype"), options.get("order"))
        if key not in self._kept:
            self._kept[key] = super().__call__(x, w, *scales, **options)
        return self._kept[key].clone()


class InLoops(Int8):
    """Adds one column of products after the other, in int64."""

    is_right = True

    def sums(self, x: Tensor, w: Tensor) -> Tensor:
        """Add."""
        total = torch.zeros(x.shape[0], w.shape[0], dtype=torch.int64)
        for k in range(x.shape[1]):
            total += x[:, k : k + 1] * w[:, k].to(torch.int64)
        return total


class ShiftedCodes(Int8):
    """Takes the zero point out of the codes before they are multiplied."""

    is_right = True

    def corrected(self, acc: Tensor, zero: Tensor | None, w: Tensor) -> Tensor:
        """Take the zero point out by a product of its own."""
        if zero is None:
            return acc
        ones = torch.ones(1, w.shape[1], dtype=torch.int64)
        return acc - zero * self.sums(ones, w)
