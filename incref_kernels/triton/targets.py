"""What the matrix units of a device multiply, and how they add."""

from collections.abc import Mapping
from enum import Enum

import torch
import triton.language as tl

from incref.errors import UnsupportedError
from incref.formats import ElementFormat
from incref.numerics.accumulate.models import Accumulator, Sequential
from incref.numerics.accumulate.table import find_accumulator

__all__ = ["FP8_TYPES", "Factors", "accumulator", "factors_for", "is_hopper"]


class Factors(Enum):
    """What codes of 8-bit floats are multiplied as; products are exact in all, sums may not be."""

    CODES = "codes"
    """As they are, by units for 8-bit floats: on Hopper and Ada these keep 14 bits of a sum."""
    BFLOAT16 = "bfloat16"
    """As bfloat16, which holds all their values: sums keep the bits of float32."""


FP8_TYPES: Mapping[str, tl.dtype] = {
    "float8_e4m3fn": tl.float8e4nv,
    "float8_e5m2": tl.float8e5,
    "float8_e4m3fnuz": tl.float8e4b8,
    "float8_e5m2fnuz": tl.float8e5b16,
}
"""Triton's names of the formats that some matrix units take."""

_OCP = ("float8_e4m3fn", "float8_e5m2")
_FNUZ = ("float8_e4m3fnuz", "float8_e5m2fnuz")
# The formats that matrix units of NVIDIA's GPUs take, from this compute capability on.
_FIRST_WITH_FP8 = (8, 9)
_CAPABILITY_HOPPER = (9, 0)
_FP8_OF_AMD: Mapping[str, tuple[str, ...]] = {"gfx942": _FNUZ, "gfx950": _OCP, "gfx1200": _OCP, "gfx1201": _OCP}

_MACHINES: Mapping[tuple[int, int], Mapping[Factors, str]] = {
    (8, 0): {Factors.BFLOAT16: "ampere_mma_half"},
    (8, 6): {Factors.BFLOAT16: "ampere_mma_half"},
    (8, 9): {Factors.BFLOAT16: "ada_mma_half", Factors.CODES: "ada_mma_fp8"},
    (9, 0): {Factors.BFLOAT16: "hopper_wgmma_half", Factors.CODES: "hopper_wgmma_fp8_promoted"},
    (10, 0): {Factors.BFLOAT16: "blackwell_tcgen05_half", Factors.CODES: "blackwell_tcgen05_fp8"},
}


def is_hopper(device: torch.device) -> bool:
    """Whether groups of warps multiply from shared memory, and so have registers for wider tiles."""
    return (
        device.type == "cuda"
        and not torch.version.hip
        and torch.cuda.get_device_capability(device) == _CAPABILITY_HOPPER
    )


def factors_for(device: torch.device, *formats: ElementFormat) -> Factors:
    """Choose what codes are multiplied as: as they are where the device has units for these formats."""
    if device.type != "cuda":
        taken: tuple[str, ...] = ()
    elif torch.version.hip:
        arch = torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
        taken = _FP8_OF_AMD.get(arch, ())
    else:
        taken = _OCP if torch.cuda.get_device_capability(device) >= _FIRST_WITH_FP8 else ()
    return Factors.CODES if all(fmt.name in taken for fmt in formats) else Factors.BFLOAT16


def accumulator(device: torch.device, factors: Factors) -> Accumulator:
    """Say how a `tl.dot` of the kernels here adds, for factors of 8 or 16 bits.

    Compiled for the CPU it is one rounding for each product, in the order of K. Elsewhere it is a row of
    `incref.numerics.accumulate.table`, which has the evidence.

    Raises:
        UnsupportedError: if that is not known.
    """
    if device.type == "cpu":
        return Sequential(is_fused=True)
    is_nvidia = device.type == "cuda" and not torch.version.hip
    row = _MACHINES.get(torch.cuda.get_device_capability(device), {}).get(factors) if is_nvidia else None
    if row is None:
        raise UnsupportedError(
            f"nothing is known of how {device} adds products of {factors.value}; measure it with "
            "conformance.tensor_core_probe and add a row to incref/numerics/accumulate/table.py"
        )
    return find_accumulator(row)
