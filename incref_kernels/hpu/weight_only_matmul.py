"""`weight_only_matmul`: one operator dequantizes a weight of 4-bit integers or 8-bit floats, a product follows."""

from functools import partial

import torch
from torch import Tensor

from incref.backends.backend import Kernel, Prepared
from incref.formats import FloatFormat, Format, IntFormat, get_format
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.packing import pack_words
from incref.numerics.scaled import require_scale
from incref.ops.weight import Weight
from incref.ops.weight_only_matmul import require_group_index
from incref_kernels.hpu.available import has_group_index, mode, why_not_device
from incref_kernels.hpu.casts import WIDE, from_float8, why_not_format
from incref_kernels.hpu.scales import float_scale, why_not_granularity
from incref_kernels.hpu.simulator.options import Mode

__all__ = ["KERNEL", "weight_only_matmul"]

_LAYOUT = LAYOUTS[PackLayout.HPU]
_BITS = _LAYOUT.code_bits[0]
_PER_WORD = _LAYOUT.word_bits // _BITS


def weight_only_matmul(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,  # noqa: ARG001  # why_not takes no format that has one
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Run `incref.ops.weight_only_matmul`; 4-bit codes are packed in every call, so prepare what stays."""
    found = get_format(fmt)
    if isinstance(found, FloatFormat):
        weight = _dequantize_float8(w, scale, found, granularity, weight_dtype or x.dtype)
        return _multiply(weight.T, x, bias=bias, dtype=dtype)
    words, scales, zeros = _pack(w, scale, zero_point, granularity, g_idx)
    return _run(
        found.name, words, scales, zeros, x, g_idx=g_idx, bias=bias, weight_dtype=weight_dtype or x.dtype, dtype=dtype
    )


def _pack(
    codes: Tensor, scale: Tensor, zero_point: Tensor | None, granularity: Granularity, g_idx: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bring a weight [N, K] to the layout of the operators: words [K, N / 8], scales and zero points [groups, N]."""
    return _words(codes), *_pack_scales(scale, zero_point, codes.shape, granularity if g_idx is None else None)


def _pack_scales(
    scale: Tensor, zero_point: Tensor | None, shape: torch.Size, granularity: Granularity | None
) -> tuple[Tensor, Tensor | None]:
    """Scales and zero points [groups, N] of a weight [N, K]; without a granularity they are of groups already."""
    if granularity is not None:
        scale = require_scale("scale", scale, shape, granularity)
        zero_point = None if zero_point is None else require_scale("zero_point", zero_point, shape, granularity)
    zeros = None if zero_point is None else _words(zero_point.expand(shape[0], -1))
    return scale.expand(shape[0], -1).T.contiguous(), zeros


def _words(codes: Tensor) -> Tensor:
    nibbles = codes.T.to(torch.int8).view(torch.uint8) & ((1 << _BITS) - 1)
    return pack_words(nibbles, _BITS, layout=_LAYOUT, axis=1)


def _run(
    fmt: str,
    words: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    x: Tensor,
    *,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Dequantize, and multiply.

    The operator multiplies in the dtype of its result, to which it rounds scales. Those that are numbers of that dtype
    are not rounded; for others the product is in float32, and rounded then.
    """
    wanted = weight_dtype or x.dtype
    work = wanted if scales.dtype in (wanted, torch.bfloat16) else torch.float32
    convert = torch.ops.hpu.convert_from_uint4 if fmt == "uint4" else torch.ops.hpu.convert_from_int4
    if g_idx is not None and not has_group_index():
        order = g_idx.argsort(stable=True)
        words, x, g_idx = words.index_select(0, order), x.index_select(-1, order), None
    arguments = (words, float_scale(scales) if work is torch.float32 else scales, zeros, work)
    weight: Tensor = convert(*arguments) if g_idx is None else convert(*arguments, g_idx)
    return _multiply(weight.to(wanted), x, bias=bias, dtype=dtype)


def _dequantize_float8(
    w: Tensor, scale: Tensor, fmt: FloatFormat, granularity: Granularity, dtype: torch.dtype
) -> Tensor:
    factor = require_scale("scale", scale, w.shape, granularity)
    if factor.dtype is dtype:
        return from_float8(w, factor, fmt, dtype)
    return from_float8(w, float_scale(factor), fmt, torch.float32).to(dtype)


def _multiply(weight: Tensor, x: Tensor, *, bias: Tensor | None, dtype: torch.dtype | None) -> Tensor:
    """Compute `x @ weight + bias` with sums in float32; an addition of +0 makes a sum that is exactly zero +0."""
    dtype = dtype or x.dtype
    if bias is None and x.dtype is weight.dtype is dtype:
        return torch.matmul(x, weight) + 0.0
    y = torch.matmul(x.to(torch.float32), weight.to(torch.float32))
    return (y + (0.0 if bias is None else bias.to(torch.float32))).to(dtype)


def _why_not_values(x: Tensor, weight_dtype: torch.dtype | None, dtype: torch.dtype | None) -> str | None:
    for name, one in (("x", x.dtype), ("weight_dtype", weight_dtype), ("dtype", dtype)):
        if one is not None and one not in WIDE:
            return f"{name} must be torch.float32 or torch.bfloat16, got {one}"
    return why_not_device(x=x)


def _why_not_mode(fmt: str) -> str | None:
    if mode() is not Mode.EAGER:
        return None
    return (
        f"convert_from_{fmt} runs in the lazy mode, or compiled, but not eagerly; compile the model "
        "(incref_kernels.hpu.runtime.compile_model)"
    )


def _why_not_weight(
    shape: torch.Size, zero_point: Tensor | None, fmt: Format, granularity: Granularity, *, is_grouped: bool
) -> str | None:
    if isinstance(fmt, FloatFormat):
        if is_grouped:
            return "8-bit floats have no groups in another order"
        return why_not_format(fmt) or why_not_granularity(shape, granularity)
    if not isinstance(fmt, IntFormat) or fmt.bits != _BITS:
        return f"operators dequantize integers of {_BITS} bits and 8-bit floats, got {fmt.name}"
    reason = _why_not_shape(shape, None if is_grouped else granularity)
    return reason or _why_not_zeros(zero_point, fmt)


def _why_not_shape(shape: torch.Size, granularity: Granularity | None) -> str | None:
    if shape[0] % _PER_WORD:
        return f"N must be a multiple of {_PER_WORD}, got {shape[0]}"
    if granularity is None:
        return None
    rows, size = granularity.block_shape(shape)
    if rows in (1, shape[0]) and shape[1] % size == 0:
        return None
    return f"groups lie along K and divide it, got K={shape[1]} and {granularity}"


def _why_not_zeros(zero_point: Tensor | None, fmt: IntFormat) -> str | None:
    if zero_point is None or not zero_point.numel():
        return None
    least, greatest = (int(end) for end in zero_point.aminmax())
    if fmt.min_code <= least <= greatest <= fmt.max_code:
        return None
    return f"zero points must be codes, from {fmt.min_code} to {fmt.max_code}, got {least} to {greatest}"


def why_not(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    fmt: str | Format,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    g_idx: Tensor | None = None,
    tensor_scale: Tensor | None = None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> str | None:
    """Say which arguments the operators can't take."""
    found, is_grouped = get_format(fmt), g_idx is not None
    if tensor_scale is not None:
        return f"{found.name} with a scale of the tensor is not there"
    reason = _why_not_weight(w.shape, zero_point, found, granularity, is_grouped=is_grouped)
    if not isinstance(found, FloatFormat):
        reason = reason or _why_not_mode(found.name)
    reason = reason or _why_not_values(x, weight_dtype, dtype) or why_not_device(w=w, scale=scale, bias=bias)
    if reason is not None or g_idx is None:
        return reason
    require_group_index((w.shape[0], w.shape[1]), g_idx, scale, zero_point, fmt=found, granularity=granularity)
    if not has_group_index() and len(set(g_idx.bincount(minlength=scale.shape[1]).tolist())) > 1:
        return "without group_index, groups must be of one size"
    return None


def prepare(weight: Weight) -> Prepared | str:
    """Pack the weight once; words that are packed already are taken as they are."""
    fmt = weight.fmt
    if weight.tensor_scale is not None:
        return f"{fmt.name} with a scale of the tensor is not there"
    shape = torch.Size(weight.shape)
    reason = _why_not_weight(shape, weight.zero_point, fmt, weight.granularity, is_grouped=False)
    if reason is not None:
        return reason
    if isinstance(fmt, FloatFormat):
        return Prepared(
            run=partial(_run_float8, fmt, weight.granularity),
            tensors=(weight.codes(), weight.scale),
            why_not=_why_not_prepared,
        )
    words = weight.words if weight.layout is PackLayout.HPU else _words(weight.codes())
    scales, zeros = _pack_scales(weight.scale, weight.zero_point, shape, weight.granularity)
    groups = None
    if weight.order is not None and scales.shape[0] > 1 and has_group_index():
        words = torch.empty_like(words).index_copy_(0, weight.order, words)
        places = torch.arange(shape[1], dtype=torch.int32, device=words.device) // (shape[1] // scales.shape[0])
        groups = torch.empty_like(places).index_copy_(0, weight.order, places)
    return Prepared(
        run=partial(_run_packed, fmt.name),
        tensors=(words, _narrow(float_scale(scales)), zeros, groups),
        why_not=_why_not_prepared,
        takes_order=groups is not None,
        why_not_now=partial(_why_not_mode, fmt.name),
    )


def _narrow(scales: Tensor) -> Tensor:
    """Keep scales as bfloat16 if all of them are such numbers: operators then need not multiply in float32."""
    narrow = scales.to(torch.bfloat16)
    return narrow if torch.equal(narrow.to(scales.dtype), scales) else scales


def _run_packed(fmt: str, *tensors: Tensor | None, **rest: object) -> Tensor:
    words, scales, zeros, groups, x = tensors
    return _run(fmt, words, scales, zeros, x, g_idx=groups, **rest)  # type: ignore[arg-type]  # the operation's own arguments


def _run_float8(
    fmt: FloatFormat,
    granularity: Granularity,
    w: Tensor,
    scale: Tensor,
    x: Tensor,
    *,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    weight = _dequantize_float8(w, scale, fmt, granularity, weight_dtype or x.dtype)
    return _multiply(weight.T, x, bias=bias, dtype=dtype)


def _why_not_prepared(
    *tensors: Tensor | None,
    bias: Tensor | None = None,
    weight_dtype: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> str | None:
    *_, x = tensors
    assert x is not None
    return _why_not_values(x, weight_dtype, dtype) or why_not_device(bias=bias)


KERNEL = Kernel(fn=weight_only_matmul, why_not=why_not, prepare=prepare, layouts=(PackLayout.DENSE, PackLayout.HPU))
