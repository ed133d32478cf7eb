"""`StoredTokens`: a quantized tensor that grows."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.algorithms.maxabs import search_scale
from incref.config.maxabs import MaxAbsScale
from incref.formats import BlockFormat
from incref.numerics.granularity import PER_TENSOR
from incref.qtensor.parts import REFERENCE, Parts, Quantizers, dequantize_parts, draw_random_bits, quantize_parts
from incref.qtensor.spec import QuantSpec

__all__ = ["StoredTokens"]


class StoredTokens:
    """Codes and scales of a tensor [..., L, D] that grows along its tokens L.

    Attributes:
        spec: how it is quantized: by one static scale, or with scales of their own for every token, along D.
        method: how scales are found; None for the rule of `spec`.
        static_scale: the one for all, float32 [], or None.
        codes: [..., L, D], one code an element; None before the first token.
        scale: of every token, or None if static.
    """

    def __init__(self, spec: QuantSpec, method: MaxAbsScale | None = None, static_scale: Tensor | None = None) -> None:
        """Start with nothing.

        Raises:
            ValueError: for a spec by which what comes later would change the codes of what is there.
        """
        _check_growing(spec, is_static=static_scale is not None)
        self.spec = spec
        self.method = method
        self.static_scale = static_scale
        self.codes: Tensor | None = None
        self.scale: Tensor | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.codes = self.scale = None

    @property
    def length(self) -> int:
        """How many tokens there are."""
        return 0 if self.codes is None else self.codes.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(tensor.nbytes for tensor in (self.codes, self.scale) if tensor is not None)

    @torch.no_grad()
    def append(self, x: Tensor, *, by: Quantizers = REFERENCE) -> None:
        """Quantize x [..., L, D], and put it after what is there."""
        scale = None if self.static_scale is None else self.static_scale.to(x.device)
        if scale is None and self.method is not None:
            scale = search_scale(x, self.spec, self.method)
        random_bits = draw_random_bits(x, self.spec.rounding)
        parts = quantize_parts(x, self.spec, scale, random_bits=random_bits, by=by)
        self.codes = parts.codes if self.codes is None else torch.cat([self.codes, parts.codes], dim=-2)
        if self.static_scale is None:
            self.scale = parts.scale if self.scale is None else torch.cat([self.scale, parts.scale], dim=-2)

    def read(self, dtype: torch.dtype, *, by: Quantizers = REFERENCE) -> Tensor:
        """Dequantize all of it.

        Raises:
            ValueError: if there is nothing.
        """
        scale = self.scale if self.static_scale is None else self.static_scale
        if self.codes is None or scale is None:
            raise ValueError("there are no tokens yet")
        scale = scale.to(self.codes.device)
        return dequantize_parts(Parts(codes=self.codes, scale=scale), self.spec, dtype, by=by)

    def map(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply `change` to codes and to scales of tokens: what picks tokens, or items of a batch."""
        self.codes = None if self.codes is None else change(self.codes)
        self.scale = None if self.scale is None else change(self.scale)


def _check_growing(spec: QuantSpec, *, is_static: bool) -> None:
    fmt = spec.fmt
    if isinstance(fmt, BlockFormat):
        is_growing = spec.axis == -1 and not fmt.has_tensor_scale
    elif is_static:
        is_growing = spec.granularity == PER_TENSOR
    else:
        # Groups along D, or all of it.
        is_growing = len(spec.granularity.block) == 1 and spec.granularity.lead == 1
    if not is_growing or not spec.symmetric:
        raise ValueError(
            f"what grows has a static scale, or scales along its last dimension alone, and no zero points; got {spec}"
            f"{'' if is_static else ' without a static scale'}"
        )
