"""Conversions between all types."""

import numpy as np
import torch
import triton.language as tl

from benchmarks.triton_native.language.kernels import cast_kernel
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import (
    BITS8,
    DTYPES,
    FLOATS,
    INTEGERS,
    SIGNED,
    array,
    differ,
    empty,
    is_float,
    patterns,
    tensor,
)
from incref.formats import FORMATS, FloatFormat, Overflow
from incref.ops import decode, encode

__all__ = ["ROWS"]

_BLOCK = 1 << 13
_TRITON = {
    "bool": tl.int1, **{name: getattr(tl, name) for name in (*INTEGERS, *FLOATS)},
    "float8_e4m3fn": tl.float8e4nv, "float8_e5m2": tl.float8e5,
    "float8_e4m3fnuz": tl.float8e4b8, "float8_e5m2fnuz": tl.float8e5b16,
}  # fmt: skip


def _wide(x: torch.Tensor, source: str) -> torch.Tensor:
    """The values of floats, exactly."""
    if source in {"float32", "float64"}:
        return x
    return decode(x.view(torch.uint8 if source in BITS8 else torch.int16), source)


def _expected(x: torch.Tensor, source: str, target: str) -> torch.Tensor:
    """One rounding to nearest even, if not said otherwise; integers wrap, floats lose their fraction."""
    kind = DTYPES[target]
    if not is_float(source):
        if not is_float(target):
            return tensor(array(x).astype("bool" if target == "bool" else target))
        # Triton writes signed integers to bfloat16 by way of float32, so a GPU rounds those of more than 24 bits twice.
        x = x.to(torch.float32 if target == "bfloat16" and source in SIGNED else torch.float64)
    elif target == "bool":
        return _wide(x, source) != 0
    elif not is_float(target):
        return tensor(array(_wide(x, source)).astype(target))
    else:
        x = _wide(x, source)
    if target in {"float32", "float64"}:
        return x.to(kind)
    return encode(x, target, overflow=Overflow.NONSATURATE).view(kind)


def _inputs(source: str, target: str) -> torch.Tensor:
    """Patterns whose result has one meaning: beyond the range of an integer or an 8-bit float there are several."""
    x = patterns(source)
    if not is_float(source):
        # Exact in float64, which the expected value is rounded from.
        x = x >> 12 if DTYPES[source].itemsize == 8 and is_float(target) and source != "uint64" else x
        x = tensor(array(x) >> 12) if source == "uint64" and is_float(target) else x
        limit = _limit(target) if is_float(target) else None
        return x if limit is None or source == "bool" else tensor(array(x) % array(x).dtype.type(min(limit, 127)))
    if source in {"float8_e4m3fn", "float8_e5m2"} and target == "bfloat16":
        # Triton's lowering for gfx942 takes their NaN and Inf for numbers.
        return tensor(array(x)[np.isfinite(array(x).astype("float32"))])
    if target in {"float16", "bfloat16", "float32", "float64"} or target == "bool":
        return x
    wide = array(_wide(x, source)).astype("float64")
    limit = _limit(target) if is_float(target) else float(2 ** (8 * DTYPES[target].itemsize - 2))
    lowest = 0 if target.startswith("uint") else -limit
    keep = (wide >= lowest) & (wide <= limit)
    if is_float(target):
        keep |= np.isnan(wide)
    return tensor(array(x)[keep])


def _limit(target: str) -> float | None:
    fmt = FORMATS[target]
    assert isinstance(fmt, FloatFormat)
    return fmt.qmax if target in BITS8 else None


def _row(source: str, target: str) -> Row:
    def wrong(launch: Launch) -> int:
        x = _inputs(source, target)
        x = x.repeat(-(-_BLOCK // len(x)))
        x = x[: len(x) // _BLOCK * _BLOCK].clone()
        got = empty(target, len(x))
        launch(cast_kernel, len(x) // _BLOCK, x, got, N=_BLOCK, TO=_TRITON[target])
        return differ(got, array(_expected(x, source, target)))

    return Row(group="conversion", operation=f"to {target}", dtype=source, wrong=wrong)


ROWS = [_row(source, target) for target in DTYPES for source in DTYPES if source != target]
