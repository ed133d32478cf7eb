"""Casts to and from 8 bits.

Both multiply with their scale, in the dtype of the wider side, and round there: `cast_to` before it rounds to 8 bits,
`cast_from` after its exact conversion. The scale is rounded to that dtype first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from incref.errors import UnsupportedError
from incref.formats import FloatFormat, NanRule, Overflow, Rounding
from incref.ops.decode import decode
from incref.ops.encode import encode
from incref_kernels.hpu.simulator.options import Denormals, Inf, Nan, StochasticDenormals
from incref_kernels.hpu.simulator.profile import HpuProfile

__all__ = ["FLOAT8", "Casts", "Scale", "encode_result"]

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""The 8-bit floats of PyTorch that Gaudi's operators take."""

_WIDE = (torch.float32, torch.bfloat16)
Scale = Tensor | float | Sequence[float] | None
"""What an operator multiplies with, in each of its overloads."""


def encode_result(x: Tensor, fmt: FloatFormat, profile: HpuProfile, *, saturates: bool = True) -> Tensor:
    """Round to 8 bits as a unit of `profile` does, to nearest even; uint8."""
    return _encode(x, fmt, profile, Overflow.NONSATURATE if not saturates else _overflow(profile), None)


def _overflow(profile: HpuProfile) -> Overflow:
    return Overflow.SATURATE if profile.inf is Inf.LARGEST else Overflow.SATURATE_FINITE


def _encode(x: Tensor, fmt: FloatFormat, profile: HpuProfile, overflow: Overflow, random_bits: Tensor | None) -> Tensor:
    rounding = Rounding.NEAREST_EVEN if random_bits is None else Rounding.STOCHASTIC
    codes = encode(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.ERROR, random_bits=random_bits)
    if profile.denormals is Denormals.ZERO:
        codes = _flush(x, codes, fmt)
    nan = torch.full_like(codes, fmt.sign_code - 1)
    if profile.nan is Nan.SIGNED:
        nan |= codes & fmt.sign_code
    return torch.where(x.isnan(), nan, codes)


def _flush(x: Tensor, codes: Tensor, fmt: FloatFormat) -> Tensor:
    return torch.where(x.abs() < fmt.smallest_normal, codes & fmt.sign_code, codes)


class Casts:
    """The operators `cast_...` on one chip."""

    def __init__(self, profile: HpuProfile) -> None:
        """Take the chip."""
        self.profile = profile

    def cast_to_fp8_v2(
        self,
        input: Tensor,  # the operator's name for it
        scale: Scale = None,
        stochastic_rounding: bool = False,  # likewise
        is_amax: bool = False,
        dtype: torch.dtype | None = None,
        scale_shape: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cast `input * scale` to `dtype`; and `max(abs(input))`, float32, or no element if it is not asked for."""
        if dtype is None:
            raise ValueError("cast_to_fp8_v2 needs a dtype; without one the real operator has none either")
        if input.dtype in FLOAT8:
            return self._keep(input, scale, dtype, is_amax=is_amax), _no_amax(input)
        codes = self._cast(input, scale, dtype, scale_shape, is_stochastic=stochastic_rounding)
        return codes, _amax(input) if is_amax else _no_amax(input)

    def cast_to_fp8_v2_meta(
        self,
        input: Tensor,
        scale: Scale = None,
        stochastic_rounding: bool = False,
        is_amax: bool = False,
        dtype: torch.dtype | None = None,
        scale_shape: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Shapes and dtypes of `cast_to_fp8_v2`."""
        amax = input.new_empty(() if is_amax else (0,), dtype=torch.float32)
        return torch.empty_like(input, dtype=dtype), amax

    def cast_to_fp8(
        self,
        input: Tensor,
        scale: Tensor | None,
        stochastic_rounding: bool,
        out: Tensor,
        amax: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cast into `out`, and write the largest magnitude to `amax` if that has an element."""
        out.copy_(self._cast(input, scale, out.dtype, None, is_stochastic=stochastic_rounding))
        if amax.numel():
            amax.fill_(_amax(input).item())
        return out, amax

    def cast_to_fp8_meta(
        self,
        input: Tensor,
        scale: Tensor | None,
        stochastic_rounding: bool,
        out: Tensor,
        amax: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Shapes and dtypes of `cast_to_fp8`."""
        return out, amax

    def cast_to_fp8_hybrid(
        self,
        input: Tensor,
        scale_152: Tensor | None = None,
        scale_143: Tensor | None = None,
        stochastic_rounding: bool = False,
        is_amax: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cast to both formats at once: E5M2, E4M3, and the largest magnitude. E4M3 is to nearest in any case."""
        wide = self._cast(input, scale_152, torch.float8_e5m2, None, is_stochastic=stochastic_rounding)
        narrow = self._cast(input, scale_143, torch.float8_e4m3fn, None, is_stochastic=False)
        return wide, narrow, _amax(input) if is_amax else _no_amax(input)

    def cast_to_fp8_hybrid_meta(
        self,
        input: Tensor,
        scale_152: Tensor | None = None,
        scale_143: Tensor | None = None,
        stochastic_rounding: bool = False,
        is_amax: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shapes and dtypes of `cast_to_fp8_hybrid`."""
        wide, narrow = (torch.empty_like(input, dtype=dtype) for dtype in (torch.float8_e5m2, torch.float8_e4m3fn))
        return wide, narrow, input.new_empty(() if is_amax else (0,), dtype=torch.float32)

    def cast_from_fp8(
        self,
        input: Tensor,
        scale: Scale,
        out_dtype: torch.dtype,
        scale_shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Convert to `out_dtype`, which is exact, and multiply with the scale there."""
        if out_dtype not in _WIDE:
            raise TypeError(f"cast_from_fp8 gives torch.float32 or torch.bfloat16, got {out_dtype}")
        values = decode(input.view(torch.uint8), self.profile.read_format(input.dtype), dtype=out_dtype)
        factor = _factor(scale, out_dtype, scale_shape)
        return values if factor is None else values * factor

    def cast_from_fp8_meta(
        self,
        input: Tensor,
        scale: Scale,
        out_dtype: torch.dtype,
        scale_shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Shape and dtype of `cast_from_fp8`."""
        return torch.empty_like(input, dtype=out_dtype)

    def _cast(
        self, x: Tensor, scale: Scale, dtype: torch.dtype, scale_shape: Sequence[int] | None, *, is_stochastic: bool
    ) -> Tensor:
        if x.dtype not in _WIDE:
            raise TypeError(f"casts to 8 bits take torch.float32 or torch.bfloat16, got {x.dtype}")
        fmt, factor = self.profile.cast_format(dtype), _factor(scale, x.dtype, scale_shape)
        scaled = x if factor is None else x * factor
        bits = torch.randint(-(1 << 15), 1 << 15, scaled.shape, dtype=torch.int16) if is_stochastic else None
        codes = _encode(scaled, fmt, self.profile, _overflow(self.profile), bits)
        if is_stochastic and x.dtype is torch.bfloat16 and dtype is torch.float8_e5m2:
            codes = self._replace_denormals(scaled, codes, fmt)
        return codes.view(dtype)

    def _replace_denormals(self, x: Tensor, codes: Tensor, fmt: FloatFormat) -> Tensor:
        match self.profile.stochastic_denormals:
            case StochasticDenormals.STOCHASTIC:
                return codes
            case StochasticDenormals.NEAREST:
                nearest = _encode(x, fmt, self.profile, _overflow(self.profile), None)
                return torch.where(x.abs() < fmt.smallest_normal, nearest, codes)
            case StochasticDenormals.ZERO:
                return torch.where(x.isnan(), codes, _flush(x, codes, fmt))

    def _keep(self, x: Tensor, scale: Scale, dtype: torch.dtype, *, is_amax: bool) -> Tensor:
        if is_amax:
            raise ValueError("CastToFp8V2 must have no amax for float8.")
        if dtype is not x.dtype:
            raise TypeError(f"8-bit floats are cast to their own dtype only, got {x.dtype} and {dtype}")
        if scale is not None:
            raise UnsupportedError("what a scale does to values that have 8 bits already is not known")
        return x.clone()


def _factor(scale: Scale, dtype: torch.dtype, scale_shape: Sequence[int] | None) -> Tensor | None:
    if scale is None:
        return None
    factor = scale.to(dtype) if isinstance(scale, Tensor) else torch.tensor(scale, dtype=dtype)
    if scale_shape is None or factor.numel() == 1:
        return factor
    wanted = torch.Size(scale_shape).numel()
    if wanted != factor.numel():
        raise ValueError(
            f"Number of scale elements ({factor.numel()}) is not equal to number of scale_shape elements ({wanted})"
        )
    return factor.view(*scale_shape)


def _amax(x: Tensor) -> Tensor:
    return x.abs().amax().to(torch.float32) if x.numel() else torch.zeros((), dtype=torch.float32)


def _no_amax(x: Tensor) -> Tensor:
    return x.new_empty((0,), dtype=torch.float32)
