"""Products of scaled matrices: exact sums, and the roundings of what follows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.formats import ScaleOrder
from incref.numerics.granularity import Granularity
from incref.numerics.patterns import FLOAT_DTYPES, float_format_of
from incref.numerics.scaled import require_scale, round_to_half, scale_values
from incref.numerics.special_matmul import matmul_with_specials

__all__ = [
    "Factor",
    "apply_scales",
    "as_rows",
    "finish",
    "flat_scale",
    "matmul_rounded",
    "require_matrices",
    "require_output",
    "scaled_matmul",
]


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A matrix that is multiplied.

    Attributes:
        values: float64 [rows, K], exact.
        scale: float32 [rows, ceil(K / block)], what values are to be multiplied with; None is 1.
        block: how many values along K share a scale.
    """

    values: Tensor
    scale: Tensor | None
    block: int

    def scaled(self) -> Tensor:
        """The exact products of values and scales, which float64 holds for values of at most 29 bits."""
        if self.scale is None:
            return self.values
        factor = self.scale.to(torch.float64).repeat_interleave(self.block, 1)
        return self.values * factor[:, : self.values.shape[1]]

    def stretch(self, start: int, stop: int) -> "Factor":
        """The columns `start` to `stop`, which share scales."""
        at = start // self.block
        scale = None if self.scale is None else self.scale[:, at : at + 1]
        return Factor(values=self.values[:, start:stop], scale=scale, block=max(stop - start, 1))


def require_matrices(x: Tensor, w: Tensor) -> None:
    """Check that `x` [..., K] can be multiplied by the transpose of `w` [N, K].

    Raises:
        ValueError: if not.
    """
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"x must be [..., K] and w [N, K], got {tuple(x.shape)} and {tuple(w.shape)}")


def as_rows(x: Tensor) -> Tensor:
    """View [..., K] as [rows, K]."""
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


def require_output(dtype: torch.dtype, bias: Tensor | None, columns: int) -> None:
    """Check the dtype of a result and the bias that is added to it.

    Raises:
        TypeError: if a dtype is not float32, bfloat16 or float16.
        ValueError: if `bias` is not [N].
    """
    for name, one in (("dtype", dtype), ("bias", None if bias is None else bias.dtype)):
        if one is not None and (one not in FLOAT_DTYPES or one is torch.float64):
            raise TypeError(f"{name} must be torch.float32, torch.bfloat16 or torch.float16, got {one}")
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"bias must have the shape ({columns},), one for each row of w, got {tuple(bias.shape)}")


def flat_scale(
    name: str, scale: Tensor | None, shape: Sequence[int], granularity: Granularity
) -> tuple[Tensor | None, int]:
    """Give scales of a tensor as a matrix.

    Args:
        name: of the scale, for errors.
        scale: float32, bfloat16, float16 or uint8 (codes of E8M0), in the shape that `granularity` gives; None for 1.
        shape: of the tensor, [..., K].
        granularity: which elements share a scale.

    Returns:
        float32 [rows, blocks along K], one row for each of the tensor's, and how many elements of a row share one.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape.
    """
    if scale is None:
        return None, max(shape[-1], 1)
    block = granularity.block_shape(shape)
    factor = scale_values(require_scale(name, scale, torch.Size(shape), granularity), torch.float32)
    for d, (extent, size) in enumerate(zip(block[:-1], shape[:-1], strict=True)):
        factor = factor.repeat_interleave(extent, d).narrow(d, 0, size)
    # Rows without elements have no blocks either.
    return as_rows(factor) if factor.shape[-1] else None, block[-1]


def scaled_matmul(x: Factor, w: Factor, *, order: ScaleOrder, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Multiply two scaled matrices; `ScaleOrder` says which roundings happen, in which order.

    Args:
        x: [M, K].
        w: [N, K].
        order: where scales enter.
        bias: float32, bfloat16 or float16 [N], or None.
        dtype: float32, bfloat16 or float16, of the result.

    Returns:
        [M, N]. Without scales and bias, and for EXACT, rounded once.

    Raises:
        ValueError: if scales along K differ in blocks of two sizes, in another order than EXACT.
    """
    if order is ScaleOrder.EXACT or (x.scale is None and w.scale is None and bias is None):
        return matmul_rounded(x.scaled(), w.scaled(), bias=bias, dtype=dtype)
    length = x.values.shape[1]
    sizes = {factor.block for factor in (x, w) if factor.scale is not None and factor.block < length}
    if len(sizes) > 1:
        raise ValueError(
            f"scales along K must come in blocks of one size, got {sorted(sizes)}; ScaleOrder.EXACT takes any"
        )
    step = sizes.pop() if sizes else max(length, 1)
    total: Tensor | None = None
    for start in range(0, max(length, 1), step):
        one, other = (factor.stretch(start, min(start + step, length)) for factor in (x, w))
        acc = matmul_rounded(one.values, other.values, bias=None, dtype=torch.float32)
        part = apply_scales(acc, one.scale, None if other.scale is None else other.scale.T, order)
        total = part if total is None else total + part
    assert total is not None
    return finish(total, bias, dtype)


def matmul_rounded(x: Tensor, w: Tensor, *, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`x @ w.T + bias`, exact and rounded once to `dtype`; see `matmul_with_specials`.

    Args:
        x: float64 [M, K].
        w: float64 [N, K].
        bias: [N], or None.
        dtype: float32, bfloat16 or float16.
    """
    if bias is not None:
        x = torch.cat([x, x.new_ones(x.shape[0], 1)], 1)
        w = torch.cat([w, bias.to(torch.float64).unsqueeze(1)], 1)
    exact = matmul_with_specials(x, w)
    return round_to_half(exact, dtype).to(dtype)


def apply_scales(acc: Tensor, x_scale: Tensor | None, w_scale: Tensor | None, order: ScaleOrder) -> Tensor:
    """Multiply float32 `acc` with scales that broadcast to its shape, in an order other than EXACT."""
    assert order is not ScaleOrder.EXACT
    if x_scale is None or w_scale is None:
        only = w_scale if x_scale is None else x_scale
        return acc if only is None else acc * only
    match order:
        case ScaleOrder.PRODUCT:
            return acc * (x_scale * w_scale)
        case ScaleOrder.X_THEN_W:
            return (acc * x_scale) * w_scale
        case _:
            return (acc * w_scale) * x_scale


def finish(value: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Add a bias to float32 values, with one rounding, and round to `dtype`."""
    float_format_of(dtype)
    return (value if bias is None else value + bias.to(torch.float32)).to(dtype)
