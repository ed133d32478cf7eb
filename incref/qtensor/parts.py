"""A tensor as codes and scales, by the operations that its spec names."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from incref.backends.backend import Backend
from incref.formats import BlockFormat, IntFormat, Rounding
from incref.numerics.granularity import per_group
from incref.numerics.scaled import round_to_half
from incref.ops.compute_scale import compute_scale
from incref.ops.contract import Op
from incref.ops.decode import decode
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.dequantize_float import dequantize_float
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.fake_quantize_affine import fake_quantize_affine
from incref.ops.fake_quantize_float import fake_quantize_float
from incref.ops.fake_quantize_mx import fake_quantize_mx
from incref.ops.quantize_affine import quantize_affine
from incref.ops.quantize_float import quantize_float
from incref.ops.quantize_mx import quantize_mx
from incref.qtensor.quantized_scales import QuantizedScales, dequantize_scales, quantize_scales
from incref.qtensor.spec import QuantSpec

__all__ = [
    "REFERENCE",
    "Parts",
    "Quantizers",
    "dequantize_parts",
    "draw_random_bits",
    "fake_quantize",
    "find_scale",
    "quantize_parts",
    "quantizers_of",
]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the operations return, by name.

    Attributes:
        codes: one code a byte, in the shape of the tensor.
        scale: of every block.
        zero_point: int32, of every block, or None.
        tensor_scale: one for all, of formats that have it, or None.
        scales: what `scale` was dequantized from, where scales are quantized themselves, or None.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None
    scales: QuantizedScales | None = None


@dataclass(frozen=True, kw_only=True)
class Quantizers:
    """What quantizes and dequantizes: the operations of these names, or kernels that give their bits."""

    quantize_affine: Callable[..., tuple[Tensor, ...]]
    quantize_float: Callable[..., tuple[Tensor, ...]]
    quantize_mx: Callable[..., tuple[Tensor, ...]]
    dequantize_affine: Callable[..., Tensor]
    dequantize_float: Callable[..., Tensor]
    dequantize_mx: Callable[..., Tensor]
    fake_quantize_affine: Callable[..., Tensor] | None
    fake_quantize_float: Callable[..., Tensor] | None
    fake_quantize_mx: Callable[..., Tensor] | None


REFERENCE = Quantizers(
    quantize_affine=quantize_affine,
    quantize_float=quantize_float,
    quantize_mx=quantize_mx,
    dequantize_affine=dequantize_affine,
    dequantize_float=dequantize_float,
    dequantize_mx=dequantize_mx,
    fake_quantize_affine=fake_quantize_affine,
    fake_quantize_float=fake_quantize_float,
    fake_quantize_mx=fake_quantize_mx,
)
"""The operations themselves."""


def quantizers_of(backend: Backend, scale: Tensor | None = None) -> Quantizers:
    """The kernels of `backend`. Where it has none, or declines, the reference computes: both give the same bits.

    Args:
        backend: whose kernels.
        scale: float32 [], the one that every tensor is quantized by, if it stays.
    """
    for op in (quantize_float, dequantize_float):
        backend = backend.with_scales(op.name, scale=scale)
    return Quantizers(
        quantize_affine=quantize_affine.on(backend, fallback="reference"),
        quantize_float=quantize_float.on(backend, fallback="reference"),
        quantize_mx=quantize_mx.on(backend, fallback="reference"),
        dequantize_affine=dequantize_affine.on(backend, fallback="reference"),
        dequantize_float=dequantize_float.on(backend, fallback="reference"),
        dequantize_mx=dequantize_mx.on(backend, fallback="reference"),
        fake_quantize_affine=_fused(fake_quantize_affine, backend),
        fake_quantize_float=_fused(fake_quantize_float, backend),
        fake_quantize_mx=_fused(fake_quantize_mx, backend),
    )


def _fused(op: Op[..., Tensor], backend: Backend) -> Callable[..., Tensor] | None:
    """The kernel that does both; None where the backend's kernels do one each, which are not to be passed by."""
    return op.on(backend, fallback="reference") if op.name in backend.kernels else None


_MX_OPTIONS = ("axis", "rule", "rounding", "overflow", "nan_block", "inf_block", "nan", "int_range", "arithmetic")
_AFFINE_OPTIONS = (
    "granularity",
    "rule",
    "symmetric",
    "symmetric_scale",
    "int_range",
    "arithmetic",
    "rounding",
    "nan",
)
_FLOAT_OPTIONS = ("granularity", "rule", "arithmetic", "quotient", "rounding", "overflow", "nan")


def _options(spec: QuantSpec, names: tuple[str, ...]) -> dict[str, Any]:
    """What an operation that quantizes is told, by the names that it shares with the spec."""
    return {name: getattr(spec, name) for name in names}


def find_scale(x: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor | None]:
    """Compute the scale of `x`, and its zero point or None, as `spec` says, for a format that is no block format.

    Raises:
        ValueError: if a scale that is not 0 becomes 0 or Inf in the `scale_dtype` of `spec`.
    """
    assert not isinstance(spec.fmt, BlockFormat)
    found = compute_scale(
        x,
        spec.fmt,
        spec.granularity,
        rule=spec.rule,
        symmetric=spec.symmetric,
        symmetric_scale=spec.symmetric_scale,
    )
    scale, zero_point = found if isinstance(found, tuple) else (found, None)
    return _rounded_scale(scale, spec.scale_dtype), zero_point


def quantize_parts(
    x: Tensor,
    spec: QuantSpec,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    random_bits: Tensor | None = None,
    by: Quantizers = REFERENCE,
) -> Parts:
    """Quantize `x` as `spec` says.

    Args:
        x: float64, float32, bfloat16 or float16, any shape.
        spec: the format and every choice.
        scale: scales to use instead of those that `spec` computes; not for block formats.
        zero_point: the zero points that go with `scale`.
        random_bits: for stochastic rounding, in the shape of `x`.
        by: what quantizes.

    Returns:
        What `quantize_affine`, `quantize_float` or `quantize_mx` gives. Where `spec` quantizes scales, those that are
        computed or given are quantized and dequantized first; zero points are those of the scales before.

    Raises:
        ValueError: if a scale is given for a block format.
    """
    fmt = spec.fmt
    if isinstance(fmt, BlockFormat):
        if scale is not None or zero_point is not None:
            raise ValueError(f"the scales of {fmt.name} follow from its values; leave scale and zero_point out")
        if spec.tensor_scale_divides:
            raise ValueError("a scale of the tensor that divides others is for weights that were quantized elsewhere")
        codes, scale, *rest = by.quantize_mx(
            x,
            fmt,
            **_options(spec, _MX_OPTIONS),
            random_bits=random_bits,
        )
        return Parts(codes=codes, scale=scale, tensor_scale=rest[0] if rest else None)
    if scale is None and (spec.scales is not None or spec.scale_dtype is not None):
        scale, zero_point = find_scale(x, spec)
    if spec.scales is not None:
        assert scale is not None
        scales = quantize_scales(scale, spec.scales)
        parts = quantize_parts(
            x,
            replace(spec, scales=None),
            dequantize_scales(scales, spec.scales),
            zero_point,
            random_bits=random_bits,
            by=by,
        )
        return replace(parts, scales=scales)
    if isinstance(fmt, IntFormat):
        codes, scale, *rest = by.quantize_affine(
            x,
            fmt,
            scale,
            zero_point,
            **_options(spec, _AFFINE_OPTIONS),
            random_bits=random_bits,
        )
        return Parts(codes=codes, scale=scale, zero_point=rest[0] if rest else None)
    codes, scale = by.quantize_float(
        x,
        fmt,
        scale,
        **_options(spec, _FLOAT_OPTIONS),
        random_bits=random_bits,
    )
    return Parts(codes=codes, scale=scale)


def _rounded_scale(scale: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Round `scale` to `dtype`, and give it in its own."""
    if dtype is None:
        return scale
    rounded = round_to_half(scale, dtype).to(dtype).to(scale.dtype)
    lost = ((rounded == 0) & (scale != 0)) | (rounded.isinf() & scale.isfinite())
    if bool(lost.any()):
        raise ValueError(
            f"scales must be in the range of {dtype}, got {scale[lost].flatten()[0].item():.3g}; "
            "take a wider scale_dtype"
        )
    return rounded


def dequantize_parts(parts: Parts, spec: QuantSpec, dtype: torch.dtype, *, by: Quantizers = REFERENCE) -> Tensor:
    """Turn `parts` back into values of `dtype`, with the roundings of the operation that `spec` names."""
    fmt = spec.fmt
    if isinstance(fmt, BlockFormat):
        if spec.tensor_scale_divides:
            return _dequantize_divided(parts, spec, fmt, dtype)
        return by.dequantize_mx(
            parts.codes, parts.scale, fmt, axis=spec.axis, tensor_scale=parts.tensor_scale, dtype=dtype
        )
    if isinstance(fmt, IntFormat):
        return by.dequantize_affine(
            parts.codes, parts.scale, parts.zero_point, granularity=spec.granularity, dtype=dtype
        )
    return by.dequantize_float(parts.codes, parts.scale, fmt, granularity=spec.granularity, dtype=dtype)


def _dequantize_divided(parts: Parts, spec: QuantSpec, fmt: BlockFormat, dtype: torch.dtype) -> Tensor:
    """Multiply elements with the scales of their blocks, divided by that of the tensor first."""
    assert parts.tensor_scale is not None
    factor = decode(parts.scale, fmt.scale, dtype=torch.float32) / parts.tensor_scale
    axis = spec.axis if spec.axis < 0 else spec.axis - parts.codes.ndim
    granularity = per_group(fmt.block_size, axis)
    return dequantize_float(parts.codes, factor, fmt.element, granularity=granularity, dtype=dtype)


def fake_quantize(
    x: Tensor,
    spec: QuantSpec,
    scale: Tensor | None = None,
    *,
    random_bits: Tensor | None = None,
    by: Quantizers = REFERENCE,
) -> Tensor:
    """Quantize `x`, by `scale` if it is given, and dequantize it again, to the dtype that it had."""
    fmt = spec.fmt
    # Where one operation does both it keeps no codes.
    if isinstance(fmt, BlockFormat):
        if scale is None and not spec.tensor_scale_divides and by.fake_quantize_mx is not None:
            return by.fake_quantize_mx(x, fmt, **_options(spec, _MX_OPTIONS), random_bits=random_bits)
    elif spec.scales is None and (scale is not None or spec.scale_dtype is None):
        if isinstance(fmt, IntFormat):
            if by.fake_quantize_affine is not None:
                options = _options(spec, _AFFINE_OPTIONS)
                return by.fake_quantize_affine(x, fmt, scale, **options, random_bits=random_bits)
        elif by.fake_quantize_float is not None:
            return by.fake_quantize_float(x, fmt, scale, **_options(spec, _FLOAT_OPTIONS), random_bits=random_bits)
    return dequantize_parts(quantize_parts(x, spec, scale, random_bits=random_bits, by=by), spec, x.dtype, by=by)


def draw_random_bits(x: Tensor, rounding: Rounding, generator: torch.Generator | None = None) -> Tensor | None:
    """Draw 32 bits for each element of `x` if `rounding` is stochastic, else None.

    Args:
        x: the tensor that will be rounded.
        rounding: any mode.
        generator: what to draw from, on the CPU; None for the default one of the device of `x`.
    """
    if rounding is not Rounding.STOCHASTIC:
        return None
    low, high = -(1 << 31), 1 << 31
    if generator is None:
        return torch.randint(low, high, x.shape, dtype=torch.int32, device=x.device)
    return torch.randint(low, high, x.shape, dtype=torch.int32, generator=generator).to(x.device)
