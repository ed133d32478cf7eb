"""Faults of `mx_matmul`."""

import torch
from torch import Tensor

from conformance.faults.products import (
    Bfloat16,
    Directed,
    Fused,
    LastDropped,
    NanSwallowed,
    NotZeroed,
    Product,
    SplitFour,
    TailDropped,
    Tf32,
    Tiled,
    TileTwice,
    Truncating,
    Wide,
)
from incref.ops import dequantize_mx


class Mx(Product):
    """Dequantizes both factors, exactly, and adds products in the order of K, in float32."""

    op = "mx_matmul"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        x_scale: Tensor,
        w_scale: Tensor,
        *,
        x_fmt: str,
        w_fmt: str,
        dtype: torch.dtype = torch.float32,
        **_: object,
    ) -> Tensor:
        """Multiply."""
        a, b = self.values(x, x_scale, x_fmt), self.values(w, w_scale, w_fmt)
        return self.store(self.multiply(a, b), dtype)

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return dequantize_mx(codes, scale, fmt)


class MxWide(Wide, Mx):
    """Adds in float64 and rounds once."""

    is_right = True


class MxTiled(Tiled, Mx):
    """Adds tiles of 32 exactly and these in float32."""

    is_right = True


class MxSplitFour(SplitFour, Mx):
    """Splits K in four, and adds the four sums."""

    is_right = True


class MxFused(Fused, Mx):
    """Multiplies and adds with one rounding."""

    is_right = True


class MxLastDropped(LastDropped, Mx):
    """The loop over K ends one too early."""


class MxTailDropped(TailDropped, Mx):
    """A last block that is not whole is not added."""


class MxTileTwice(TileTwice, Mx):
    """The second block is counted twice."""


class MxSumsTowardZero(Directed, Mx):
    """Sums are cut off as older matrix units do it, and the nearest is declared."""

    source = "Fasi, Higham, Mikaitis, Pranesh: PeerJ Computer Science 7:e330, 2021: the units of V100, T4 and A100"


class MxBfloat16Accumulator(Bfloat16, Mx):
    """Sums are kept in bfloat16, and float32 is declared."""


class MxTruncates(Truncating, Mx):
    """The accumulator keeps 14 bits, and float32 is declared."""


class MxTf32(Tf32, Mx):
    """Both factors are cut off to TF32, which holds elements but not integers of eight bits times scales."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        found = super().values(codes, scale, fmt)
        return (found.contiguous().view(torch.int32) & ~0x7FFFF).view(torch.float32)


class MxNotZeroed(NotZeroed, Mx):
    """Split-K adds to an output that nobody set to zero."""


class MxScaleShifted(Mx):
    """Blocks get the scales of their neighbours."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale.roll(1, -1), fmt)


class MxScaleOfFirstRow(Mx):
    """All rows have the scales of the first."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale[:1].expand_as(scale), fmt)


class MxNanScaleLost(Mx):
    """The scale 0xFF counts as 2**127."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, scale.clamp(max=254), fmt)


class MxScaleClamped(Mx):
    """Scales are clamped to a range of 16 binades around one."""

    def values(self, codes: Tensor, scale: Tensor, fmt: str) -> Tensor:
        return super().values(codes, torch.where(scale == 255, scale, scale.clamp(119, 135)), fmt)


class MxNanSwallowed(NanSwallowed, Mx):
    """NaN becomes 0 in the epilogue."""
