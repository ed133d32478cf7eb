"""What the oracle answers to operations, by name; the results have the dtypes and shapes that the references give."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from incref.conformance import block_judge
from incref.conformance.judge import decode_tensor, encode_each, encode_tensor
from incref.conformance.product_answers import PRODUCT_ANSWERS
from incref.formats import (
    BlockFormat,
    BlockRule,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.encode import get_element_format
from incref.ops.quantize_mx import get_block_format
from incref.oracle.elements import ElementRules
from incref.oracle.packing import pack_stream, unpack_stream

__all__ = ["ORACLE_ANSWERS"]


def _decode(codes: Tensor, fmt: str, *, dtype: torch.dtype = torch.float32) -> Tensor:
    return decode_tensor(codes, get_element_format(fmt), dtype)


def _encode(
    x: Tensor,
    fmt: str,
    *,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.FULL,
    random_bits: Tensor | None = None,
) -> Tensor:
    target = get_element_format(fmt)
    if random_bits is not None or target.bits > 16:
        rules = ElementRules(rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
        return encode_each(x, target, rules, random_bits).to(code_dtype(target))
    codes = encode_tensor(x, target, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    return codes.to(code_dtype(target))


def _compute_scale(
    x: Tensor,
    fmt: str,
    granularity: Granularity = PER_TENSOR,
    *,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
) -> Tensor | tuple[Tensor, Tensor]:
    target, shape = get_element_format(fmt), granularity.scale_shape(x.shape)
    if symmetric:
        return block_judge.scales(x, target, granularity, rule, symmetric_scale).view(shape)
    assert isinstance(target, IntFormat)
    scale, zero = block_judge.affine_zero_points(x, target, granularity, rule)
    return scale.view(shape), zero.view(shape)


def _quantize_affine(
    x: Tensor,
    fmt: str,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    symmetric: bool = True,
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
    int_range: IntRange = IntRange.FULL,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, ...]:
    target = get_element_format(fmt)
    assert isinstance(target, IntFormat)
    if scale is None:
        found = _compute_scale(x, fmt, granularity, rule=rule, symmetric=symmetric, symmetric_scale=symmetric_scale)
        scale, zero_point = found if isinstance(found, tuple) else (found, None)
    rules = ElementRules(rounding=rounding, overflow=Overflow.SATURATE, nan=nan, int_range=int_range)
    codes = block_judge.affine_codes(
        x, target, scale, zero_point, granularity, arithmetic=arithmetic, rules=rules, random_bits=random_bits
    ).to(code_dtype(target))
    return (codes, scale) if zero_point is None else (codes, scale, zero_point)


def _quantize_float(
    x: Tensor,
    fmt: str,
    scale: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    rule: ScaleRule = ScaleRule.DIVIDE,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan: NanRule = NanRule.ERROR,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    target = get_element_format(fmt)
    if scale is None:
        found = _compute_scale(x, fmt, granularity, rule=rule)
        assert isinstance(found, Tensor)
        scale = found
    rules = ElementRules(rounding=rounding, overflow=overflow, nan=nan, int_range=IntRange.FULL)
    codes = block_judge.float_codes(
        x,
        target,
        scale,
        granularity,
        arithmetic=arithmetic,
        rules=rules,
        random_bits=random_bits,
        quotient=quotient,
    )
    return codes.to(code_dtype(target)), scale


def _dequantize_affine(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return block_judge.affine_values(codes, scale, zero_point, granularity, dtype)


def _dequantize_float(
    codes: Tensor,
    scale: Tensor,
    fmt: str,
    *,
    granularity: Granularity = PER_TENSOR,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return block_judge.float_values(codes, scale, get_element_format(fmt), granularity, dtype)


def _scale_shape(x: Tensor, fmt: BlockFormat, axis: int) -> list[int]:
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // fmt.block_size)
    return shape


def _quantize_mx(
    x: Tensor,
    fmt: str,
    *,
    axis: int = -1,
    rule: ScaleRule | None = None,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    nan: NanRule = NanRule.ERROR,
    int_range: IntRange = IntRange.RESTRICTED,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tensor_scale: Tensor | None = None,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, ...]:
    target = get_block_format(fmt)
    rules = ElementRules(rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
    specials, shape = (nan_block, inf_block), _scale_shape(x, target, axis)
    if not target.has_tensor_scale:
        codes, scale = block_judge.mx_codes(
            x,
            target,
            axis=axis,
            rule=rule or ScaleRule.FLOOR,
            specials=specials,
            rules=rules,
            random_bits=random_bits,
        )
        return codes.to(code_dtype(target.element)), scale.view(shape)
    codes, scale, whole = block_judge.nvfp4_codes(
        x,
        target,
        axis=axis,
        tensor_scale=tensor_scale,
        arithmetic=arithmetic,
        specials=specials,
        rules=rules,
        random_bits=random_bits,
    )
    return codes.to(code_dtype(target.element)), scale.view(shape), whole


def _dequantize_mx(
    codes: Tensor,
    scale: Tensor,
    fmt: str,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return block_judge.mx_values(codes, scale, get_block_format(fmt), axis=axis, tensor_scale=tensor_scale, dtype=dtype)


def _bits_and_words(fmt: str, layout: PackLayout) -> tuple[int, bool, torch.dtype]:
    found = get_format(fmt)
    element = found.element if isinstance(found, BlockFormat) else found
    is_signed = isinstance(element, IntFormat) and element.is_signed
    return element.bits, is_signed, torch.uint8 if LAYOUTS[layout].word_bits == 8 else torch.int32


def _pack(codes: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1) -> Tensor:
    bits, _, dtype = _bits_and_words(fmt, layout)
    lines = codes.movedim(axis, -1)
    words = [pack_stream(line, bits, layout) for line in lines.reshape(lines.shape[:-1].numel(), -1).tolist()]
    count = LAYOUTS[layout].num_words(bits, lines.shape[-1])
    packed = torch.tensor(words, dtype=torch.int64).to(dtype).view(*lines.shape[:-1], count)
    return packed.movedim(-1, axis).contiguous()


def _unpack(packed: Tensor, fmt: str, *, layout: PackLayout, axis: int = -1, length: int) -> Tensor:
    bits, is_signed, _ = _bits_and_words(fmt, layout)
    lines = packed.movedim(axis, -1)
    flat = lines.reshape(lines.shape[:-1].numel(), -1).tolist()
    codes = [unpack_stream(line, bits, layout, length, is_signed=is_signed) for line in flat]
    dtype = torch.int8 if is_signed else torch.uint8
    return torch.tensor(codes, dtype=dtype).view(*lines.shape[:-1], length).movedim(-1, axis).contiguous()


def _cast(x: Tensor, fmt: str, **options: object) -> Tensor:
    compute = torch.float64 if x.dtype is torch.float64 else torch.float32
    return _decode(_encode(x, fmt, **options), fmt, dtype=compute).to(x.dtype)  # type: ignore[arg-type]  # those of encode


def _fake_quantize_affine(
    x: Tensor, fmt: str, *args: object, granularity: Granularity = PER_TENSOR, **options: object
) -> Tensor:
    found = _quantize_affine(x, fmt, *args, granularity=granularity, **options)  # type: ignore[arg-type]  # those of quantize_affine
    return _dequantize_affine(*found, granularity=granularity, dtype=x.dtype)


def _fake_quantize_float(
    x: Tensor, fmt: str, *args: object, granularity: Granularity = PER_TENSOR, **options: object
) -> Tensor:
    found = _quantize_float(x, fmt, *args, granularity=granularity, **options)  # type: ignore[arg-type]  # those of quantize_float
    return _dequantize_float(*found, fmt, granularity=granularity, dtype=x.dtype)


def _fake_quantize_mx(x: Tensor, fmt: str, *, axis: int = -1, **options: object) -> Tensor:
    codes, scale, *whole = _quantize_mx(x, fmt, axis=axis, **options)  # type: ignore[arg-type]  # those of quantize_mx
    return _dequantize_mx(codes, scale, fmt, axis=axis, tensor_scale=whole[0] if whole else None, dtype=x.dtype)


ORACLE_ANSWERS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "encode": _encode,
        "decode": _decode,
        "compute_scale": _compute_scale,
        "quantize_affine": _quantize_affine,
        "dequantize_affine": _dequantize_affine,
        "quantize_float": _quantize_float,
        "dequantize_float": _dequantize_float,
        "quantize_mx": _quantize_mx,
        "dequantize_mx": _dequantize_mx,
        "cast": _cast,
        "fake_quantize_affine": _fake_quantize_affine,
        "fake_quantize_float": _fake_quantize_float,
        "fake_quantize_mx": _fake_quantize_mx,
        "pack": _pack,
        "unpack": _unpack,
        **PRODUCT_ANSWERS,
    }
)
"""The operations that the oracle answers."""
