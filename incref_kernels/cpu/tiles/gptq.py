"""One column of GPTQ."""

from torch import Tensor

from incref_kernels.cpu.tiles.scaled import ScaledEncoding, dequantize_scaled_tile, quantize_scaled_tile

__all__ = ["gptq_column_tile"]


def gptq_column_tile(
    w: Tensor, pivot: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, how: ScaledEncoding
) -> tuple[Tensor, Tensor]:
    """Quantize a column: give its codes, and `(w - dequantized) / pivot`, two roundings."""
    codes = quantize_scaled_tile(w, scale, *(() if zero_point is None else (zero_point,)), how=how)
    values = dequantize_scaled_tile(codes, scale, zero_point, fmt=how.target, dtype=w.dtype)
    return codes, (w - values) / pivot
