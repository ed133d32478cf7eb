"""Faults of GPTQ: `gptq_update`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from conformance.faults.spread import spread
from incref.formats import IntRange, ScaleArithmetic
from incref.numerics.granularity import PER_TOKEN, Granularity
from incref.ops import dequantize_affine, quantize_affine


class Lazy(Kernel):
    """Gathers, for each column, the errors of all before it, and changes no other column."""

    op = "gptq_update"
    is_right = True

    def __call__(
        self,
        w: Tensor,
        upper: Tensor,
        scale: Tensor,
        fmt: str,
        zero_point: Tensor | None = None,
        *,
        granularity: Granularity = PER_TOKEN,
        int_range: IntRange = IntRange.FULL,
        arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize."""
        scales, zeros = self.scales(w, scale, granularity), None
        if zero_point is not None:
            zeros = spread(zero_point, w.shape, granularity)
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        for j in range(w.shape[1]):
            column = self.gather(w[:, j], [error for _, error, _ in columns], upper, j)
            one, zero = scales[:, j].contiguous(), None if zeros is None else zeros[:, j].contiguous()
            code = quantize_affine(
                self.quantized(column, w[:, j]).unsqueeze(1),
                fmt,
                one.unsqueeze(1),
                None if zero is None else zero.unsqueeze(1),
                granularity=PER_TOKEN,
                int_range=int_range,
                arithmetic=arithmetic,
            )[0]
            value = dequantize_affine(
                code, one.unsqueeze(1), None if zero is None else zero.unsqueeze(1), granularity=PER_TOKEN
            )
            columns.append((code[:, 0], self.error(column, value[:, 0], upper, j), column))
        if not columns:
            codes = quantize_affine(w, fmt, scale, zero_point, granularity=granularity)[0]
            return codes, torch.empty_like(w), w.clone()
        return tuple(torch.stack(list(part), 1) for part in zip(*columns, strict=True))

    def scales(self, w: Tensor, scale: Tensor, granularity: Granularity) -> Tensor:
        return spread(scale, w.shape, granularity)

    def gather(self, column: Tensor, errors: list[Tensor], upper: Tensor, j: int) -> Tensor:
        for i, error in enumerate(errors):
            column = column - self.share(error, upper, i, j)
        return column.contiguous()

    def share(self, error: Tensor, upper: Tensor, i: int, j: int) -> Tensor:
        return upper[i, j] * error

    def quantized(self, column: Tensor, before: Tensor) -> Tensor:
        return column

    def error(self, column: Tensor, value: Tensor, upper: Tensor, j: int) -> Tensor:
        return (column - value) / upper[j, j]


class ErrorNotPropagated(Lazy):
    """Columns are quantized as they are: round to nearest, with the name of GPTQ."""

    def gather(self, column: Tensor, errors: list[Tensor], upper: Tensor, j: int) -> Tensor:
        return column.contiguous()


class ErrorToNextOnly(Lazy):
    """Only the next column makes up for an error."""

    def gather(self, column: Tensor, errors: list[Tensor], upper: Tensor, j: int) -> Tensor:
        return super().gather(column, [e if i == j - 1 else 0 * e for i, e in enumerate(errors)], upper, j)


class ErrorAdded(Lazy):
    """The share of an error is added, not subtracted."""

    def share(self, error: Tensor, upper: Tensor, i: int, j: int) -> Tensor:
        return -super().share(error, upper, i, j)


class FactorTransposed(Lazy):
    """The factor is read as a lower triangle."""

    def share(self, error: Tensor, upper: Tensor, i: int, j: int) -> Tensor:
        return upper[j, i] * error


class PivotForgotten(Lazy):
    """Errors are not divided by the pivot."""

    def error(self, column: Tensor, value: Tensor, upper: Tensor, j: int) -> Tensor:
        return column - value


class PivotSquared(Lazy):
    """The pivot of the inverse Hessian itself is taken for that of its factor."""

    def error(self, column: Tensor, value: Tensor, upper: Tensor, j: int) -> Tensor:
        return (column - value) / (upper[j, j] * upper[j, j])


class PivotDamped(Lazy):
    """The pivot has a damping once more."""

    def error(self, column: Tensor, value: Tensor, upper: Tensor, j: int) -> Tensor:
        return (column - value) / (upper[j, j] * 1.01)


class PivotInverted(Lazy):
    """The error is multiplied with the rounded inverse of the pivot."""

    def error(self, column: Tensor, value: Tensor, upper: Tensor, j: int) -> Tensor:
        return (column - value) * (1 / upper[j, j])


class StaleColumn(Lazy):
    """A column is quantized as it was before the errors were added to it."""

    def quantized(self, column: Tensor, before: Tensor) -> Tensor:
        return before.contiguous()


class StaleGroupScale(Lazy):
    """All groups have the scale of the first."""

    def scales(self, w: Tensor, scale: Tensor, granularity: Granularity) -> Tensor:
        return (
            super().scales(w, scale, granularity)[:, :1].expand(w.shape)
            if w.numel()
            else super().scales(w, scale, granularity)
        )


class SharesSummedFirst(Lazy):
    """The shares are summed before they are subtracted: other roundings."""

    def gather(self, column: Tensor, errors: list[Tensor], upper: Tensor, j: int) -> Tensor:
        total = torch.zeros_like(column)
        for i, error in enumerate(errors):
            total = total + self.share(error, upper, i, j)
        return (column - total).contiguous()


class SharesFused(Lazy):
    """Product and difference are one fused operation, with one rounding."""

    def gather(self, column: Tensor, errors: list[Tensor], upper: Tensor, j: int) -> Tensor:
        for i, error in enumerate(errors):
            column = (column.double() - upper[i, j].double() * error.double()).float()
        return column.contiguous()
