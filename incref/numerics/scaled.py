"""Division of values by the scales of their blocks, and multiplication with them."""

import torch
from torch import Tensor

from incref.formats import E8M0, NanRule, Overflow, Rounding, ScaleArithmetic
from incref.numerics.blocks import from_blocks, per_element, to_blocks
from incref.numerics.checks import is_eager
from incref.numerics.decode import value_table
from incref.numerics.encode import Encoding, encode_patterns
from incref.numerics.granularity import Granularity
from incref.numerics.patterns import float_format_of, patterns_of

__all__ = [
    "compute_dtype",
    "divide_by_scale",
    "per_block_map",
    "product_dtype",
    "require_scale",
    "round_to_half",
    "scale_values",
]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype that scaled arithmetic on values of `dtype` runs in: float64 for float64, else float32."""
    float_format_of(dtype)
    return torch.float64 if dtype is torch.float64 else torch.float32


def product_dtype(scale: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """Dtype that products with a scale are rounded to before `dtype`: float64 if one of the two is, else float32."""
    compute = compute_dtype(dtype)
    return torch.float64 if scale is torch.float64 else compute


def round_to_half(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round float64 values to nearest even in `dtype`, if that is a dtype of 16 bits; give back all others as they are.

    PyTorch converts them through float32, which rounds twice; its other conversions between floats round once.
    """
    if x.dtype is not torch.float64 or dtype.itemsize != torch.float16.itemsize:
        return x
    to = Encoding(
        fmt=float_format_of(dtype), rounding=Rounding.NEAREST_EVEN, overflow=Overflow.NONSATURATE, nan=NanRule.ERROR
    )
    return encode_patterns(patterns_of(x), to).to(torch.int16).view(dtype)


def require_scale(name: str, scale: Tensor, shape: torch.Size, granularity: Granularity) -> Tensor:
    """Check the shape of the scale or zero point of a tensor of `shape`, and give it one dimension for each of those.

    Raises:
        ValueError: if it is another one.
    """
    wanted = granularity.scale_shape(shape)
    if tuple(scale.shape) != wanted:
        raise ValueError(
            f"the {name} of a tensor of shape {tuple(shape)}, with blocks of {granularity.block_shape(shape)}, must "
            f"have the shape {wanted}, got {tuple(scale.shape)}"
        )
    return scale if scale.ndim == len(shape) else scale.view((1,) * len(shape))


def scale_values(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Give scales as values of `dtype`, exactly; uint8 is read as codes of E8M0.

    Raises:
        TypeError: if the dtype of `scale` is neither uint8 nor a float that `dtype` holds.
    """
    if scale.dtype is torch.uint8:
        table = value_table(E8M0, dtype, scale.device)
        return table.index_select(0, scale.reshape(-1).to(torch.int32)).view(scale.shape)
    if float_format_of(scale.dtype).bits > float_format_of(dtype).bits:
        raise TypeError(f"the arithmetic is in {dtype}, so the scale must not be wider, got {scale.dtype}")
    return scale.to(dtype)


def per_block_map(x: Tensor, scale: Tensor, block: tuple[int, ...], *, divide: bool) -> Tensor:
    """Divide every element of `x` by the scale of its block, or multiply it, with one rounding in their common dtype.

    Args:
        x: values.
        scale: one for each block, with as many dimensions as `x`.
        block: extent of a block along every dimension.
        divide: whether to divide.
    """
    blocks, factor = to_blocks(x, block), per_element(scale, x.ndim)
    return from_blocks(blocks / factor if divide else blocks * factor, x.shape)


def divide_by_scale(
    x: Tensor,
    scale: Tensor,
    block: tuple[int, ...],
    arithmetic: ScaleArithmetic,
    *,
    half: torch.dtype | None = None,
) -> Tensor:
    """Compute `x / scale`, or `x * (1 / scale)`, block by block; see `ScaleArithmetic`.

    A NaN in x is the quotient, else a NaN in its scale; `0 / 0`, `Inf / Inf` and `0 * Inf` are NaN with sign bit 0.

    Args:
        x: float32 or float64.
        scale: one for each block, of the same dtype.
        block: extent of a block along every dimension.
        arithmetic: a division, or a product with the reciprocal.
        half: a dtype of 16 bits that the values of x are of, to which the other operand and the quotient are rounded;
            None to round neither. A float32 has more than twice its bits, so that rounding the quotient to float32
            first changes nothing (Figueroa: When is double rounding innocuous?, 1995).
    """
    is_division = arithmetic is ScaleArithmetic.DIVIDE
    factor = scale if is_division else 1.0 / scale
    if half is None and _keeps_signs(factor, x.device):
        return per_block_map(x, factor, block, divide=is_division)
    if half is not None:
        factor = torch.where(factor.isnan(), factor, factor.to(half).to(factor.dtype))
    blocks, factors = to_blocks(x, block), per_element(factor, x.ndim)
    quotient = blocks / factors if is_division else blocks * factors
    if half is not None:
        quotient = quotient.to(half).to(quotient.dtype)
    new = torch.where(factors.isnan(), factors, torch.nan)
    quotient = torch.where(blocks.isnan(), blocks, torch.where(quotient.isnan(), new, quotient))
    return from_blocks(quotient, x.shape)


def _keeps_signs(factor: Tensor, device: torch.device) -> bool:
    """Whether no NaN is made or met but those in x, which division and multiplication on a CPU keep as they are."""
    if not is_eager() or device.type != "cpu":
        return False
    return bool((factor.isfinite() & (factor != 0)).all())
