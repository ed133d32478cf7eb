"""Devices as launchers see them, what their matrix units multiply, and how they add."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from functools import cache

import torch
import triton

from incref.backends.declared import ANY_ORDER, AnyGroups, AnyOf, AnyOrder, Declared, in_any_order
from incref.errors import UnsupportedError
from incref.formats import ElementFormat
from incref.numerics.accumulate.models import Accumulator, Sequential
from incref.numerics.accumulate.table import find_accumulator
from incref.numerics.constant import constant_in_graphs

__all__ = [
    "Factors",
    "Target",
    "accumulator",
    "assuming",
    "declared_sums_of_codes",
    "declared_sums_of_floats",
    "declared_sums_of_halves",
    "factors_for",
    "target_of",
]


class Factors(Enum):
    """What codes are multiplied as; products are exact in all, sums may not be."""

    CODES = "codes"
    """As they are, by units for 8-bit floats: on Hopper and Ada these keep 14 bits of a sum."""
    BFLOAT16 = "bfloat16"
    """As bfloat16, which holds all their values: sums keep the bits of float32."""
    BLOCKS = "blocks"
    """As they are with the scales of their blocks, by units that multiply those too: of `mx_matmul` alone."""


_SCALING_BLOCKS = ("sm_100", "sm_103", "sm_120", "gfx950")
_OCP = ("float8_e4m3fn", "float8_e5m2")
_FNUZ = ("float8_e4m3fnuz", "float8_e5m2fnuz")
# The formats that matrix units of NVIDIA's GPUs take, from this architecture on.
_FIRST_WITH_FP8 = 89
_FP8_OF_AMD: Mapping[str, tuple[str, ...]] = {"gfx942": _FNUZ, "gfx950": _OCP, "gfx1200": _OCP, "gfx1201": _OCP}
# Its matrix units flush subnormals of 16-bit factors (AMD Instinct MI200 ISA; PyTorch's notes on numerical accuracy).
_FLUSHING = ("gfx90a",)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What launchers ask of a device.

    Attributes:
        kind: "cuda", "hip", "xpu" or "cpu".
        arch: such as "sm_90" or "gfx942"; empty where it does not matter.
        shared: bytes that the threads of a program can share; None for any number.
        multiprocessors: how many programs run at least; 0 where there is no need to occupy them.
    """

    kind: str
    arch: str = ""
    shared: int | None = None
    multiprocessors: int = 0

    @property
    def is_hopper(self) -> bool:
        """Whether groups of warps multiply from shared memory, and so have registers for wider tiles."""
        return self.arch == "sm_90"

    @property
    def has_few_registers(self) -> bool:
        """Whether a wave has half of the registers that tiles were chosen for: on RDNA, 256 of 32 lanes in all."""
        return self.arch.startswith(("gfx11", "gfx12"))

    @property
    def keeps_sums_apart(self) -> bool:
        """Whether sums of matrix units lie in a memory of their own, from which each is copied to be scaled."""
        return self.arch in {"sm_100", "sm_103"}

    @property
    def spills_scales(self) -> bool:
        """Whether 128 codes of a row and the scales of their blocks are more than its registers take (`make aot`)."""
        return self.kind == "hip" or self.arch == "sm_120"

    @property
    def flushes_halves(self) -> bool:
        """Whether subnormals of 16 bits are zeros to its matrix units."""
        return self.arch in _FLUSHING

    @property
    def scales_blocks(self) -> bool:
        """Whether matrix units take scales of blocks; the CPU runs what is compiled for gfx950."""
        return self.kind == "cpu" or self.arch in _SCALING_BLOCKS

    @property
    def fp8(self) -> tuple[str, ...]:
        """The 8-bit floats that its matrix units take."""
        if self.kind == "hip":
            return _FP8_OF_AMD.get(self.arch, ())
        return _OCP if self.kind == "cuda" and int(self.arch.removeprefix("sm_")) >= _FIRST_WITH_FP8 else ()


_assumed: ContextVar[Target | None] = ContextVar("assumed", default=None)


@contextmanager
def assuming(target: Target) -> Iterator[None]:
    """Choose as if every device were `target`, as it takes to compile for one that is not there."""
    token = _assumed.set(target)
    try:
        yield
    finally:
        _assumed.reset(token)


@constant_in_graphs
def target_of(device: torch.device) -> Target:
    """Describe a device."""
    return _assumed.get() or _found(device)


@cache
def _found(device: torch.device) -> Target:
    if device.type == "cpu":
        return Target(kind="cpu")
    module = torch.get_device_module(device)
    index = device.index if device.index is not None else module.current_device()
    facts = module.get_device_properties(index)
    kind, arch = device.type, ""
    if device.type == "cuda" and torch.version.hip:
        kind, arch = "hip", facts.gcnArchName.partition(":")[0]
    elif device.type == "cuda":
        arch = f"sm_{facts.major}{facts.minor}"
    return Target(
        kind=kind,
        arch=arch,
        shared=triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"],
        multiprocessors=facts.multi_processor_count,
    )


_MACHINES: Mapping[str, Mapping[Factors, str]] = {
    "sm_80": {Factors.BFLOAT16: "ampere_mma_half"},
    "sm_86": {Factors.BFLOAT16: "ampere_mma_half"},
    "sm_89": {Factors.BFLOAT16: "ada_mma_half", Factors.CODES: "ada_mma_fp8"},
    "sm_90": {Factors.BFLOAT16: "hopper_wgmma_half", Factors.CODES: "hopper_wgmma_fp8_promoted"},
    "sm_100": {Factors.BFLOAT16: "blackwell_tcgen05_half", Factors.CODES: "blackwell_tcgen05_fp8"},
}


def factors_for(device: torch.device, *formats: ElementFormat) -> Factors:
    """Choose what codes are multiplied as: as they are where the device has units for these formats."""
    taken = target_of(device).fp8
    return Factors.CODES if all(fmt.name in taken for fmt in formats) else Factors.BFLOAT16


def accumulator(device: torch.device, factors: Factors) -> Accumulator:
    """Say how a `tl.dot` of the kernels here adds, for factors of 8 or 16 bits.

    Compiled for the CPU it is one rounding for each product, in the order of K. Elsewhere it is a row of
    `incref.numerics.accumulate.table`, which has the evidence.

    Raises:
        UnsupportedError: if that is not known.
    """
    target = target_of(device)
    if target.kind == "cpu":
        return Sequential(is_fused=True)
    row = _MACHINES.get(target.arch, {}).get(factors)
    if row is None:
        raise UnsupportedError(
            f"nothing is known of how {device} adds products of {factors.value}; measure it with "
            "conformance.tensor_core_probe and add a row to incref/numerics/accumulate/table.py"
        )
    return find_accumulator(row)


def declared_sums_of_halves(device: torch.device) -> AnyOrder | AnyGroups:
    """Say what of `accumulator` holds for every shape, however K is split, of products of 16-bit floats.

    Where nothing is known of a device, and where a kernel is compiled for the CPU or interpreted, that is sums in
    float32 in any order: a claim that the suite then holds the device to.
    """
    return _declared_sums(device, Factors.BFLOAT16)


def _declared_sums(device: torch.device, factors: Factors) -> AnyOrder | AnyGroups:
    target = target_of(device)
    if target.kind == "cpu" or factors not in _MACHINES.get(target.arch, {}):
        return ANY_ORDER
    return in_any_order(accumulator(device, factors))


def declared_sums_of_floats(device: torch.device) -> Declared:
    """Say the same of products that may have 16 bits, which matrix units add, or 32, which are rounded in float32."""
    singles = in_any_order(Sequential())
    halves = declared_sums_of_halves(device)
    return singles if halves == ANY_ORDER else AnyOf(models=(singles, halves))


def declared_sums_of_codes(device: torch.device) -> Declared:
    """Say the same of products of 8-bit floats: of the units for those if there are any, which keep fewer bits."""
    return _declared_sums(device, Factors.CODES if target_of(device).fp8 else Factors.BFLOAT16)
