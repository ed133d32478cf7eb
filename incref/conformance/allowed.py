"""Which results a bound allows, on the grid of the output: an interval whose ends are results themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.backends.declared import AnyGroups, AnyOf, AnyOrder, Declared
from incref.conformance.bounds import error_bound
from incref.formats import FloatFormat
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.exact_matmul import exact_matmul_parts
from incref.numerics.scaled import round_to_half

__all__ = ["Interval", "allowed_sums", "count_outside", "declared_sums", "map_interval", "round_interval"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Results from `low` to `high`, both among them."""

    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        """Refuse an interval that allows nothing, or does not know what."""
        if self.low.isnan().any() or self.high.isnan().any() or (self.low > self.high).any():
            raise ValueError("an interval has no NaN, and low is at most high")


def allowed_sums(a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, declared: Declared) -> Interval:
    """Enclose every sum that the declared accumulator may give for `a @ b.T`.

    Args:
        a: finite values of `a_fmt` [M, K].
        b: finite values of `b_fmt` [N, K].
        a_fmt: format of `a`.
        b_fmt: format of `b`.
        declared: the accumulator.

    Returns:
        float64 [M, N]: the exact sum less and plus the bound, rounded outward; the exact sum alone where the bound is
        0.
    """
    exact, is_cut = exact_matmul_parts(a.to(torch.float64), b.to(torch.float64))
    bound = error_bound(a, b, a_fmt, b_fmt, declared)
    # A sum that was rounded to odd stands for all between its neighbours in 28 bits.
    width = torch.where(is_cut, bound + exact.abs() * 2.0**-27, bound)
    infinity = torch.full_like(exact, torch.inf)
    low = torch.where(width == 0, exact, torch.nextafter(exact - width, -infinity))
    high = torch.where(width == 0, exact, torch.nextafter(exact + width, infinity))
    return Interval(low=low, high=high)


def declared_sums(a: Tensor, b: Tensor, a_fmt: FloatFormat, b_fmt: FloatFormat, declared: Declared) -> Interval:
    """Enclose what the declared accumulator may give for `a @ b.T`, by one number where it is a model in full.

    A model says every bit, so nothing else is allowed. Of others `allowed_sums` says what is.
    """
    if isinstance(declared, AnyOrder | AnyGroups | AnyOf):
        return allowed_sums(a, b, a_fmt, b_fmt, declared)
    found = accumulate(a, b, a_fmt, b_fmt, declared).to(torch.float64)
    return Interval(low=found, high=found)


def round_interval(sums: Interval, dtype: torch.dtype) -> Interval:
    """The set `{RN(x): low <= x <= high}` in `dtype`: rounding keeps the order, so it has these ends.

    Args:
        sums: float64.
        dtype: float32, bfloat16 or float16.
    """
    return map_interval(sums, lambda x: round_to_half(x, dtype).to(dtype))


def map_interval(values: Interval, step: Callable[[Tensor], Tensor]) -> Interval:
    """Apply a step that is monotone, up or down, element by element, such as a product with a scale or a rounding."""
    one, other = step(values.low), step(values.high)
    return Interval(low=torch.minimum(one, other), high=torch.maximum(one, other))


def count_outside(got: Tensor, allowed: Interval) -> Tensor:
    """Count the results that are not in their interval; NaN never is, and `-0` is where 0 is.

    Returns:
        int64, ().

    Raises:
        ValueError: if shapes or dtypes differ, or there is nothing to compare.
    """
    if got.shape != allowed.low.shape or got.dtype is not allowed.low.dtype:
        raise ValueError(
            f"results must be {allowed.low.dtype} {tuple(allowed.low.shape)}, got {got.dtype} {tuple(got.shape)}"
        )
    if got.numel() == 0:
        raise ValueError("there are no results to compare; a comparison of nothing shows nothing")
    return (~((got >= allowed.low) & (got <= allowed.high))).sum()
