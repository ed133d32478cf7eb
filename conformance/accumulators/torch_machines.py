"""The matrix products of PyTorch on a GPU, as machines."""

from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import FloatFormat

__all__ = ["ScaledMatmul", "WideMatmul"]

_UNIT = 16
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ScaledMatmul:
    """`torch._scaled_mm` with scales of 1.

    Attributes:
        name: of the combination.
        a_dtype: of the left operand.
        b_dtype: of the right operand.
        a_fmt: format of the left operand.
        b_fmt: format of the right operand.
        out_dtype: of the result.
        is_fast: `use_fast_accum`.
        is_row_wise: whether there is a scale a row and a column, not one for each matrix.
        scale_a: value of every left scale.
        scale_b: value of every right scale.
        takes_carried: no.
    """

    name: str
    a_dtype: torch.dtype
    b_dtype: torch.dtype
    a_fmt: FloatFormat
    b_fmt: FloatFormat
    out_dtype: torch.dtype
    is_fast: bool
    is_row_wise: bool = False
    scale_a: float = 1.0
    scale_b: float = 1.0
    takes_carried: bool = False

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        assert carried is None
        left, right = (_fill(x, _UNIT).cuda().to(dtype) for x, dtype in ((a, self.a_dtype), (b, self.b_dtype)))
        shapes = ((left.shape[0], 1), (1, right.shape[0])) if self.is_row_wise else ((), ())
        out = torch._scaled_mm(  # noqa: SLF001  # there is no public name for it
            left,
            right.t(),
            scale_a=torch.full(shapes[0], self.scale_a, device="cuda"),
            scale_b=torch.full(shapes[1], self.scale_b, device="cuda"),
            out_dtype=self.out_dtype,
            use_fast_accum=self.is_fast,
        )
        return out[: a.shape[0], : b.shape[0]].to(torch.float32).cpu()

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        assert carried is None
        return torch.cat(
            [self.product(left, right).diagonal() for left, right in zip(_chunks(a), _chunks(b), strict=True)]
        )[: a.shape[0]]


@dataclass(frozen=True, kw_only=True)
class WideMatmul:
    """`torch.mm` of 16-bit floats to float32, or of float32 rounded to TF32."""

    name: str
    dtype: torch.dtype
    a_fmt: FloatFormat
    b_fmt: FloatFormat
    takes_carried: bool = False

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        assert carried is None
        left, right = (_fill(x, _UNIT).cuda().to(self.dtype) for x in (a, b))
        if self.dtype is torch.float32:
            torch.backends.cuda.matmul.allow_tf32 = True
            out = torch.mm(left, right.t())
        else:
            out = torch.mm(left, right.t(), out_dtype=torch.float32)
        return out[: a.shape[0], : b.shape[0]].cpu()

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        assert carried is None
        return torch.cat(
            [self.product(left, right).diagonal() for left, right in zip(_chunks(a), _chunks(b), strict=True)]
        )[: a.shape[0]]


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Pieces of one size, so that the library has no reason to split K for some of them."""
    fill = -x.shape[0] % _ROWS_AT_ONCE
    return torch.nn.functional.pad(x, (0, 0, 0, fill)).split(_ROWS_AT_ONCE)


def _fill(x: Tensor, unit: int) -> Tensor:
    """Add rows of zeros up to a multiple of `unit`."""
    return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[0] % unit)).contiguous()
