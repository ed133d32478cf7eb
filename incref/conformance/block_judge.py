"""The oracle's answers for tensors whose elements share scales, block by block."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product

import torch
from torch import Tensor

from incref.conformance.judge import LAYOUTS, data_of, decode_tensor, encode_tensor, random_data, values_of
from incref.conformance.quotients import round_to_integer, rounded_product, rounded_quotient
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    ElementFormat,
    FloatFormat,
    IntFormat,
    NanRule,
    Overflow,
    QuotientDtype,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.granularity import PER_TENSOR, Granularity, per_group
from incref.oracle import nvfp4
from incref.oracle.affine import quantize_affine
from incref.oracle.affine_scale import asymmetric_scale, symmetric_scale
from incref.oracle.arithmetic import multiply
from incref.oracle.blocks import amax_of, exponent_of_block, filler_code, quantize_block
from incref.oracle.datum import Datum, datum_of, number
from incref.oracle.elements import ElementRules
from incref.oracle.encode import round_to
from incref.oracle.ladder import ladder
from incref.oracle.scaled import dequantize, quantize_scaled
from incref.oracle.scales import LEAST_EXPONENT, shared_exponent
from incref.oracle.values import decode

__all__ = [
    "Specials",
    "affine_codes",
    "affine_values",
    "affine_zero_points",
    "block_places",
    "extremes",
    "float_codes",
    "float_values",
    "mx_codes",
    "mx_values",
    "nvfp4_codes",
    "scales",
    "spread_scales",
    "working_format",
]

Specials = tuple[BlockRule, BlockRule]
"""What a NaN and what an Inf does to its block."""

_NAN_SCALE = 255

_LARGEST_OF_24_BITS = 1 << 24
"""Every integer up to here, and every element of at most `_SHORT_BITS`, has a significand of at most 24 bits."""

_SHORT_BITS = 16


def working_format(*dtypes: torch.dtype) -> FloatFormat:
    """The format that scaled arithmetic runs in: float64 if one of the dtypes is that, else float32."""
    return LAYOUTS[torch.float64 if torch.float64 in dtypes else torch.float32]


def block_places(shape: Sequence[int], granularity: Granularity) -> Iterator[list[int]]:
    """List, for every scale in row-major order, the row-major places of its elements."""
    places = torch.arange(torch.Size(shape).numel()).view(torch.Size(shape))
    if granularity == PER_TENSOR:
        yield places.flatten().tolist()
        return
    starts = [
        [slice(start, start + extent) for start in range(0, size, extent)]
        for size, extent in zip(shape, granularity.block_shape(shape), strict=True)
    ]
    for block in product(*starts):
        yield places[block].flatten().tolist()


def extremes(x: Tensor, blocks: Iterable[Sequence[int]]) -> Iterator[list[Datum]]:
    """Take what a scale can depend on from every block: its least and greatest finite elements, an Inf and a NaN."""
    numbers = x.to(torch.float64).flatten().tolist()
    for places in blocks:
        block = [numbers[i] for i in places]
        finite = [one for one in block if math.isfinite(one)]
        found = [min(finite), max(finite)] if finite else []
        if len(finite) < len(block):
            found += [next(filter(math.isinf, block), None), next(filter(math.isnan, block), None)]
        yield [datum_of(one) for one in found if one is not None]


def scales(
    x: Tensor, fmt: ElementFormat, granularity: Granularity, rule: ScaleRule, kind: SymmetricScale = SymmetricScale.QMAX
) -> Tensor:
    """Compute the symmetric scale of every block, in row-major order."""
    working = working_format(x.dtype)
    blocks = list(extremes(x, block_places(x.shape, granularity)))
    if not rule.is_power_of_two:
        found = [symmetric_scale(xs, fmt, working, rule=rule, kind=kind) for xs in blocks]
        return values_of(found, torch.float64 if x.dtype is torch.float64 else torch.float32)
    exponents = [shared_exponent(amax_of(xs), fmt, rule) for xs in blocks]
    codes = [
        exponent - LEAST_EXPONENT if all(x.is_finite for x in xs) else _NAN_SCALE
        for exponent, xs in zip(exponents, blocks, strict=True)
    ]
    return torch.tensor(codes, dtype=torch.uint8)


def affine_zero_points(x: Tensor, fmt: IntFormat, granularity: Granularity, rule: ScaleRule) -> tuple[Tensor, Tensor]:
    """Compute the asymmetric scale and the zero point of every block, in row-major order."""
    working = working_format(x.dtype)
    found = [asymmetric_scale(xs, fmt, working, rule=rule) for xs in extremes(x, block_places(x.shape, granularity))]
    dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
    return values_of([scale for scale, _ in found], dtype), torch.tensor([z for _, z in found], dtype=torch.int32)


def _scale_data(scale: Tensor) -> list[Datum]:
    if scale.dtype is not torch.uint8:
        return data_of(scale)
    e8m0 = FORMATS["float8_e8m0fnu"]
    assert isinstance(e8m0, FloatFormat)
    return [decode(code, e8m0) for code in scale.flatten().tolist()]


def affine_codes(
    x: Tensor,
    fmt: IntFormat,
    scale: Tensor,
    zero_point: Tensor | None,
    granularity: Granularity,
    *,
    arithmetic: ScaleArithmetic,
    rules: ElementRules,
    random_bits: Tensor | None = None,
) -> Tensor:
    """Quantize to integers; int64 codes in the shape of `x`."""
    zeros = torch.zeros_like(scale, dtype=torch.int64) if zero_point is None else zero_point.to(torch.int64)
    if random_bits is None and x.dtype is not torch.float64:
        quotients = _quotients(x, spread_scales(scale, x.shape, granularity), arithmetic)
        return _affine_of_quotients(quotients, fmt, spread_scales(zeros, x.shape, granularity), rules)
    data, bits = data_of(x), None if random_bits is None else random_data(random_bits)
    codes = torch.empty(x.numel(), dtype=torch.int64)
    blocks = block_places(x.shape, granularity)
    for places, s, zero in zip(blocks, _scale_data(scale), zeros.flatten().tolist(), strict=True):
        found = quantize_affine(
            [data[i] for i in places],
            fmt,
            s,
            working_format(x.dtype),
            zero_point=zero,
            arithmetic=arithmetic,
            rounding=rules.rounding,
            nan=rules.nan,
            int_range=rules.int_range,
            random_bits=None if bits is None else [bits[i] for i in places],
        )
        codes[places] = torch.tensor(found, dtype=torch.int64)
    return codes.view(x.shape)


def _affine_of_quotients(quotients: Tensor, fmt: IntFormat, zeros: Tensor, rules: ElementRules) -> Tensor:
    """`clamp(round(quotient) + zero_point)`; what is not finite by the segments of the format."""
    codes = ladder(fmt, is_negative=False, int_range=rules.int_range).codes
    stand_ins = torch.where(quotients.isfinite(), 0.0, quotients)
    special = encode_tensor(stand_ins, fmt, nan=rules.nan, int_range=rules.int_range)
    if rules.nan is NanRule.ZERO:
        special = torch.where(quotients.isnan(), zeros, special)
    # No sum with a zero point of 32 bits that is further out is in the range, and float64 holds halves of all these.
    whole = (
        round_to_integer(quotients.nan_to_num(0.0).clamp(-(2.0**40), 2.0**40), rules.rounding).to(torch.int64) + zeros
    )
    return torch.where(quotients.isfinite(), whole, special).clamp(codes[0], codes[-1])


def _quotients(
    x: Tensor, by: Tensor, arithmetic: ScaleArithmetic, quotient: QuotientDtype = QuotientDtype.COMPUTE
) -> Tensor:
    """Divide by scales as the oracle's `divide_by_scale` does, from values of at most 24 bits; float64."""
    wide, working = x.to(torch.float64), LAYOUTS[torch.float32]
    narrow = LAYOUTS[x.dtype] if quotient is QuotientDtype.INPUT else None
    one, is_division = torch.ones((), dtype=torch.float64), arithmetic is ScaleArithmetic.DIVIDE
    if not is_division:
        by = rounded_quotient(one, by, working)
    if narrow is not None:
        by = rounded_product(by, one, narrow)
    return (rounded_quotient if is_division else rounded_product)(wide, by, narrow or working)


def spread_scales(scale: Tensor, shape: Sequence[int], granularity: Granularity) -> Tensor:
    """The scale, or the zero point, of every element; scales as exact float64."""
    numbers = values_of(_scale_data(scale), torch.float64) if scale.dtype is torch.uint8 else scale.flatten()
    numbers = numbers.to(torch.float64) if numbers.is_floating_point() else numbers
    return numbers[_blocks_of(torch.Size(shape), granularity)]


def _blocks_of(shape: torch.Size, granularity: Granularity) -> Tensor:
    """The number of the block of every element, in row-major order of the blocks."""
    found = torch.zeros(shape, dtype=torch.int64)
    if granularity == PER_TENSOR:
        return found
    for axis, (size, extent) in enumerate(zip(shape, granularity.block_shape(shape), strict=True)):
        along = torch.arange(size) // max(extent, 1)
        found = found * -(-size // max(extent, 1)) + along.view([-1 if one == axis else 1 for one in range(len(shape))])
    return found


def float_codes(
    x: Tensor,
    fmt: ElementFormat,
    scale: Tensor,
    granularity: Granularity,
    *,
    arithmetic: ScaleArithmetic,
    rules: ElementRules,
    random_bits: Tensor | None = None,
    quotient: QuotientDtype = QuotientDtype.COMPUTE,
) -> Tensor:
    """Quantize to scaled floats; int64 codes in the shape of `x`."""
    if random_bits is None and x.dtype is not torch.float64:
        quotients = _quotients(x, spread_scales(scale, x.shape, granularity), arithmetic, quotient)
        if rules.overflow is Overflow.SATURATE_FINITE:
            largest = torch.finfo(x.dtype if quotient is QuotientDtype.INPUT else torch.float32).max
            quotients = torch.where(x.isfinite() & quotients.isinf(), largest * quotients.sign(), quotients)
        return _look_up(quotients, fmt, rules)
    data, bits = data_of(x), None if random_bits is None else random_data(random_bits)
    codes = torch.empty(x.numel(), dtype=torch.int64)
    narrow = LAYOUTS[x.dtype] if quotient is QuotientDtype.INPUT else None
    for places, s in zip(block_places(x.shape, granularity), _scale_data(scale), strict=True):
        found = quantize_scaled(
            [data[i] for i in places],
            fmt,
            s,
            working_format(x.dtype),
            arithmetic=arithmetic,
            elements=rules,
            random_bits=None if bits is None else [bits[i] for i in places],
            narrow=narrow,
        )
        codes[places] = torch.tensor(found, dtype=torch.int64)
    return codes.view(x.shape)


def _look_up(x: Tensor, fmt: ElementFormat, rules: ElementRules) -> Tensor:
    return encode_tensor(
        x, fmt, rounding=rules.rounding, overflow=rules.overflow, nan=rules.nan, int_range=rules.int_range
    )


def _products(
    values: Tensor, scale: Tensor, shape: Sequence[int], granularity: Granularity, dtype: torch.dtype
) -> Tensor:
    """Multiply float64 `values` of at most 24 bits with their scales, in float32, as the oracle's `dequantize` does."""
    one = torch.ones((), dtype=torch.float64)
    product = rounded_product(values, spread_scales(scale, shape, granularity), LAYOUTS[torch.float32])
    return rounded_product(product, one, LAYOUTS[dtype]).to(dtype)


def _dequantize(
    values: Sequence[Datum], shape: Sequence[int], scale: Tensor, granularity: Granularity, dtype: torch.dtype
) -> Tensor:
    found: list[Datum] = [number(0)] * len(values)
    working = working_format(scale.dtype, dtype)
    for places, s in zip(block_places(shape, granularity), _scale_data(scale), strict=True):
        different = list({values[i]: None for i in places})
        results = dict(zip(different, dequantize(different, s, working, LAYOUTS[dtype]), strict=True))
        for place in places:
            found[place] = results[values[place]]
    return values_of(found, dtype).view(torch.Size(shape))


def affine_values(
    codes: Tensor, scale: Tensor, zero_point: Tensor | None, granularity: Granularity, dtype: torch.dtype
) -> Tensor:
    """Turn integer codes back to values."""
    numbers = codes.to(torch.int64)
    if zero_point is not None:
        numbers = numbers - spread_scales(zero_point.to(torch.int64), codes.shape, granularity)
    # A difference of zero is the integer 0, which has no sign.
    if torch.float64 not in {scale.dtype, dtype} and bool((numbers.abs() <= _LARGEST_OF_24_BITS).all()):
        return _products(numbers.to(torch.float64), scale, codes.shape, granularity, dtype)
    return _dequantize([number(n) for n in numbers.flatten().tolist()], codes.shape, scale, granularity, dtype)


def float_values(
    codes: Tensor, scale: Tensor, fmt: ElementFormat, granularity: Granularity, dtype: torch.dtype
) -> Tensor:
    """Turn scaled float codes back to values."""
    if torch.float64 not in {scale.dtype, dtype} and fmt.bits <= _SHORT_BITS:
        return _products(decode_tensor(codes, fmt, torch.float64), scale, codes.shape, granularity, dtype)
    values = [decode(code, fmt) for code in codes.flatten().tolist()]
    return _dequantize(values, codes.shape, scale, granularity, dtype)


def _along(x: Tensor, axis: int, fmt: BlockFormat) -> Iterator[list[int]]:
    """Row-major places of every block along `axis`, in the row-major order of the scales."""
    return block_places(x.shape, per_group(fmt.block_size, axis % x.ndim - x.ndim))


def mx_codes(
    x: Tensor,
    fmt: BlockFormat,
    *,
    axis: int = -1,
    rule: ScaleRule = ScaleRule.FLOOR,
    specials: Specials = (BlockRule.NAN_BLOCK, BlockRule.NAN_BLOCK),
    rules: ElementRules,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Quantize to an MX format; int64 codes in the shape of `x`, and scale codes in row-major order."""
    blocks = list(_along(x, axis, fmt))
    if random_bits is None:
        exponents = [
            exponent_of_block(xs, fmt, rule=rule, nan_block=specials[0], inf_block=specials[1])
            for xs in extremes(x, blocks)
        ]
        looked_up = _mx_elements(x, fmt, blocks, exponents, rules)
        if looked_up is not None:
            scale_codes = [_NAN_SCALE if one is None else one - LEAST_EXPONENT for one in exponents]
            return looked_up, torch.tensor(scale_codes, dtype=torch.uint8)
    data, bits = data_of(x), None if random_bits is None else random_data(random_bits)
    codes, scale_codes = torch.empty(x.numel(), dtype=torch.int64), []
    for places in blocks:
        found, scale_code = quantize_block(
            [data[i] for i in places],
            fmt,
            rule=rule,
            nan_block=specials[0],
            inf_block=specials[1],
            elements=rules,
            random_bits=None if bits is None else [bits[i] for i in places],
        )
        codes[places] = torch.tensor(found, dtype=torch.int64)
        scale_codes.append(scale_code)
    return codes.view(x.shape), torch.tensor(scale_codes, dtype=torch.uint8)


def _mx_elements(
    x: Tensor, fmt: BlockFormat, blocks: Sequence[list[int]], exponents: Sequence[int | None], rules: ElementRules
) -> Tensor | None:
    """Codes of all elements, looked up among segments; None if float64 does not hold all `x / 2**exponent`."""
    exponent, is_nan = torch.zeros(x.numel(), dtype=torch.int64), torch.zeros(x.numel(), dtype=torch.bool)
    for places, one in zip(blocks, exponents, strict=True):
        exponent[places], is_nan[places] = one or 0, one is None
    wide = x.to(torch.float64).flatten()
    scaled = torch.ldexp(wide, -exponent)
    is_exact = (torch.ldexp(scaled, exponent) == wide) | ~wide.isfinite()
    if not bool(is_exact.all()):
        return None
    codes = _look_up(torch.where(is_nan, 0.0, scaled), fmt.element, rules)
    return torch.where(is_nan, filler_code(fmt.element), codes).view(x.shape)


def nvfp4_codes(
    x: Tensor,
    fmt: BlockFormat,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    specials: Specials = (BlockRule.NAN_BLOCK, BlockRule.NAN_BLOCK),
    rules: ElementRules,
    random_bits: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize to NVFP4; int64 codes in the shape of `x`, scale codes in row-major order, and the tensor scale."""
    (whole,) = extremes(x, [range(x.numel())])
    tensor = nvfp4.tensor_scale(whole, fmt) if tensor_scale is None else data_of(tensor_scale)[0]
    if random_bits is None and x.dtype is not torch.float64:
        blocks = list(_along(x, axis, fmt))
        scale_codes = [
            nvfp4.scale_code_of_block(xs, fmt, tensor, nan_block=specials[0], inf_block=specials[1])
            for xs in extremes(x, blocks)
        ]
        codes = _nvfp4_elements(x, fmt, blocks, scale_codes, tensor, arithmetic, rules)
        return codes, torch.tensor(scale_codes, dtype=torch.uint8), values_of([tensor], torch.float32).view(())
    data, bits = data_of(x), None if random_bits is None else random_data(random_bits)
    codes, scale_codes = torch.empty(x.numel(), dtype=torch.int64), []
    for places in _along(x, axis, fmt):
        found, scale_code = nvfp4.quantize_scaled_block(
            [data[i] for i in places],
            fmt,
            tensor,
            arithmetic=arithmetic,
            nan_block=specials[0],
            inf_block=specials[1],
            elements=rules,
            random_bits=None if bits is None else [bits[i] for i in places],
        )
        codes[places] = torch.tensor(found, dtype=torch.int64)
        scale_codes.append(scale_code)
    return (
        codes.view(x.shape),
        torch.tensor(scale_codes, dtype=torch.uint8),
        values_of([tensor], torch.float32).view(()),
    )


def _nvfp4_elements(  # noqa: PLR0917  # what a code depends on
    x: Tensor,
    fmt: BlockFormat,
    blocks: Sequence[list[int]],
    scale_codes: Sequence[int],
    tensor: Datum,
    arithmetic: ScaleArithmetic,
    rules: ElementRules,
) -> Tensor:
    """Codes of all elements, from quotients that are rounded for the whole tensor, looked up among segments."""
    is_division = arithmetic is ScaleArithmetic.DIVIDE
    by, kind = torch.ones(x.numel(), dtype=torch.float64), torch.zeros(x.numel(), dtype=torch.int8)
    for places, scale_code in zip(blocks, scale_codes, strict=True):
        scale = decode(scale_code, fmt.scale)
        if scale.is_nan:
            kind[places] = 2
        elif scale.magnitude == 0:
            kind[places] = 1
        else:
            by[places] = values_of([nvfp4.operand(scale, tensor, arithmetic)], torch.float64)
    wide = torch.where(kind == 2, 0.0, x.to(torch.float64).flatten())
    scaled = (rounded_quotient if is_division else rounded_product)(wide, by, LAYOUTS[torch.float32])
    scaled = torch.where(kind == 1, torch.zeros_like(wide).copysign(wide), scaled)
    codes = _look_up(scaled, fmt.element, rules)
    return torch.where(kind == 2, filler_code(fmt.element), codes).view(x.shape)


def mx_values(
    codes: Tensor,
    scale: Tensor,
    fmt: BlockFormat,
    *,
    axis: int = -1,
    tensor_scale: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Turn blocks back to values: the exact product with the scale, that with the tensor scale, each rounded once."""
    working = working_format(dtype)
    tensor = None if tensor_scale is None else data_of(tensor_scale)[0]

    @cache
    def value_of(scale_code: int, code: int) -> Datum:
        value = round_to(multiply(decode(scale_code, fmt.scale), decode(code, fmt.element)), working)
        if tensor is not None:
            value = round_to(multiply(value, tensor), working)
        return round_to(value, LAYOUTS[dtype])

    numbers = codes.flatten().tolist()
    found = [number(0)] * len(numbers)
    for places, scale_code in zip(_along(codes, axis, fmt), scale.flatten().tolist(), strict=True):
        for i in places:
            found[i] = value_of(scale_code, numbers[i])
    return values_of(found, dtype).view(codes.shape)
