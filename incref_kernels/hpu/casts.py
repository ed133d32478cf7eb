"""What the casts to and from 8 bits can do, for every operation that uses them."""

import torch
from torch import Tensor

from incref.formats import Format, Overflow, Rounding
from incref.formats.gaudi import GAUDI
from incref.ops.encode import get_element_format
from incref_kernels.hpu.available import chip, float8_dtype, why_not_device

__all__ = ["WIDE", "as_float8", "from_float8", "to_float8", "why_not_encoding", "why_not_factors", "why_not_format"]

WIDE = (torch.float32, torch.bfloat16)
"""The dtypes of values."""


def to_float8(x: Tensor, factor: Tensor | float | None, fmt: str | Format) -> Tensor:
    """Multiply `x` by `factor` in its dtype, and encode it; uint8 codes. A number takes the overload for one."""
    cast = torch.ops.hpu.cast_to_fp8_v2
    to = cast.scalar if isinstance(factor, float) else cast.default
    codes: Tensor = to(x, factor, False, False, _dtype(fmt))[0]  # noqa: FBT003  # as declared
    return codes.view(torch.uint8)


def from_float8(codes: Tensor, factor: Tensor | float | None, fmt: str | Format, dtype: torch.dtype) -> Tensor:
    """Decode codes to `dtype`, and multiply them by `factor` there. A number takes the overload for one."""
    cast = torch.ops.hpu.cast_from_fp8
    back = cast.scalar if isinstance(factor, float) else cast.default
    values: Tensor = back(as_float8(codes, fmt), factor, dtype)
    return values


def as_float8(codes: Tensor, fmt: str | Format) -> Tensor:
    """View uint8 codes as what operators call `fmt`."""
    return codes.view(_dtype(fmt))


def _dtype(fmt: str | Format) -> torch.dtype:
    dtype = float8_dtype(get_element_format(fmt))  # type: ignore[arg-type]  # why_not has seen that it is a float
    assert dtype is not None
    return dtype


def why_not_factors(*factors: tuple[str, Tensor, str | Format]) -> str | None:
    """Say why codes can't be multiplied with each other; each has a name and a format."""
    (_, _, one), (_, _, other) = factors
    names = get_element_format(one).name, get_element_format(other).name
    if names[0] != names[1] and not GAUDI[chip()].mixes_formats:
        return f"{chip()} has no product of {names[0]} and {names[1]}"
    for name, codes, fmt in factors:
        if codes.dtype is not torch.uint8:
            return f"codes of {name} must be torch.uint8, got {codes.dtype}"
        if (reason := why_not_format(fmt)) is not None:
            return reason
    return None


def why_not_format(fmt: str | Format) -> str | None:
    """Say why codes of `fmt` can't be taken."""
    found = get_element_format(fmt)
    if float8_dtype(found) is None:  # type: ignore[arg-type]  # only the name of a format is looked at
        formats = GAUDI[chip()]
        return f"{chip()} has {formats.e4m3.name} and {formats.e5m2.name}, got {found.name}"
    return None


def why_not_encoding(x: Tensor, fmt: str | Format, rounding: Rounding, overflow: Overflow) -> str | None:
    """Say why values can't be encoded so."""
    if x.dtype not in WIDE:
        return f"casts take torch.float32 or torch.bfloat16, got {x.dtype}"
    if rounding is not Rounding.NEAREST_EVEN:
        return f"casts round to nearest even, or by random bits of their own; got {rounding}"
    if overflow is not Overflow.SATURATE:
        return f"casts saturate, got {overflow}"
    return why_not_format(fmt) or why_not_device(x=x)
