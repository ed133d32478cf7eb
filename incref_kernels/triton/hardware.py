"""Formats that kernels convert with the instructions of a device, where these were shown to give the same bits."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TypeVar, cast

import torch
import triton.language as tl

from incref.formats import BlockFormat, FloatFormat, Format
from incref_kernels.triton.targets import target_of

__all__ = ["FP8_TYPES", "HardwareFloat", "converted", "in_hardware"]

FP8_TYPES: Mapping[str, tl.dtype] = {
    "float8_e4m3fn": tl.float8e4nv,
    "float8_e5m2": tl.float8e5,
    "float8_e4m3fnuz": tl.float8e4b8,
    "float8_e5m2fnuz": tl.float8e5b16,
}
"""Triton's names of the formats that some devices have."""

_Kind = TypeVar("_Kind", bound=Format)
_CONVERTED = ("float8_e4m3fn", "float8_e5m2")
_SHOWN: Mapping[str, tuple[str, ...]] = {"sm_90": _CONVERTED}
"""By architecture, the formats whose conversions `conformance.triton_l2` found equal to the oracle's on it."""


@dataclass(frozen=True, kw_only=True)
class HardwareFloat(FloatFormat):
    """A format that kernels convert by instructions of the device, not in integers; NaN they put right themselves.

    It is what a kernel is compiled with, so it is asked for as the format: `in_hardware(FORMATS["float8_e5m2"])`.
    """


@cache
def in_hardware(fmt: _Kind) -> _Kind:
    """Give a format, or one of blocks, as one that the device converts.

    Raises:
        ValueError: for one that no device has.
    """
    if isinstance(fmt, BlockFormat):
        return cast("_Kind", replace(fmt, element=in_hardware(fmt.element)))
    if not isinstance(fmt, FloatFormat) or fmt.name not in _CONVERTED:
        raise ValueError(f"devices convert {' and '.join(_CONVERTED)}, and blocks of them, got {fmt.name}")
    return cast("_Kind", HardwareFloat(**{each.name: getattr(fmt, each.name) for each in fields(FloatFormat)}))


def converted(fmt: _Kind, device: torch.device) -> _Kind:
    """Give a format as one that the device converts, if that was shown to be right there; else as it is."""
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    is_shown = element.name in _SHOWN.get(target_of(device).arch, ())
    return in_hardware(fmt) if is_shown else fmt
