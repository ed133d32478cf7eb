"""Which results of a product of matrices the declared accumulator allows, from the arguments of the operation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from incref.backends.declared import Declared
from incref.conformance.allowed import Interval, declared_sums, map_interval, round_interval
from incref.conformance.case import Arguments
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity, per_group
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import apply_scales
from incref.ops import decode, dequantize_affine, dequantize_mx

__all__ = ["ALLOWED"]


def _allowed_weight_only(arguments: Arguments, declared: Declared) -> Interval:
    x, w = arguments["x"], arguments["w"]
    scale, zero, g_idx = arguments["scale"], arguments.get("zero_point"), arguments.get("g_idx")
    fmt, granularity, dtype = arguments["fmt"], arguments.get("granularity", PER_TENSOR), arguments["dtype"]
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    assert isinstance(scale, Tensor)
    assert isinstance(fmt, str)
    assert isinstance(granularity, Granularity)
    assert isinstance(dtype, torch.dtype)
    assert zero is None or isinstance(zero, Tensor)
    if isinstance(g_idx, Tensor):
        scale, granularity = scale[:, g_idx], per_group(1)
        zero = None if zero is None else zero[:, g_idx]
    if isinstance(FORMATS[fmt], BlockFormat):
        weight = dequantize_mx(w, scale, fmt, dtype=x.dtype)
    elif isinstance(FORMATS[fmt], IntFormat):
        weight = dequantize_affine(w, scale, zero, granularity=granularity, dtype=x.dtype)
    else:
        values = decode(w, fmt)
        ones = torch.ones_like(w, dtype=torch.int8)
        factor = dequantize_affine(ones, scale, granularity=granularity)
        weight = (values * factor).to(x.dtype)
    layout = float_format_of(x.dtype)
    return round_interval(declared_sums(x, weight, layout, layout, declared), dtype)


def _allowed_fp8(arguments: Arguments, declared: Declared) -> Interval:
    x, w, name, dtype = arguments["x"], arguments["w"], arguments["x_fmt"], arguments["dtype"]
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    assert isinstance(name, str)
    assert isinstance(dtype, torch.dtype)
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    sums = declared_sums(decode(x, fmt), decode(w, fmt), fmt, fmt, declared)
    found = round_interval(sums, torch.float32)
    scales = [arguments["x_scale"], arguments["w_scale"]]
    if isinstance(scales[0], Tensor) and isinstance(scales[1], Tensor):
        left, right = scales[0], scales[1].T if scales[1].ndim else scales[1]
        found = map_interval(found, lambda acc: apply_scales(acc, left, right, ScaleOrder.PRODUCT))
    return map_interval(found, lambda value: value.to(dtype))


def _allowed_mx(arguments: Arguments, declared: Declared) -> Interval:
    values = []
    for side in ("x", "w"):
        codes, scale, name = arguments[side], arguments[f"{side}_scale"], arguments[f"{side}_fmt"]
        assert isinstance(codes, Tensor)
        assert isinstance(scale, Tensor)
        assert isinstance(name, str)
        values.append(dequantize_mx(codes, scale, name))
    layout = float_format_of(torch.float32)
    return round_interval(declared_sums(values[0], values[1], layout, layout, declared), torch.float32)


ALLOWED: Mapping[str, Callable[[Arguments, Declared], Interval]] = MappingProxyType(
    {"weight_only_matmul": _allowed_weight_only, "fp8_matmul": _allowed_fp8, "mx_matmul": _allowed_mx}
)
"""By name of the operation."""
