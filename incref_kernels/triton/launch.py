"""Starts kernels, and says which tensors they can't take."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from incref.errors import NanError
from incref.formats import CodebookFormat, ElementFormat
from incref.numerics.constant import constant_in_graphs
from incref_kernels.triton.available import has_native, is_interpreting
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.tiles import Tile

if TYPE_CHECKING:
    from incref_kernels.triton.native.native import Native

__all__ = [
    "Launch",
    "launch",
    "lost_flag",
    "pattern_dtype",
    "raise_if_lost",
    "recording",
    "why_not_format",
    "why_not_tensors",
]

_WIDEST_CODE = 31
_IS_INTERPRETING = is_interpreting()


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What `launch` would have run.

    Attributes:
        kernel: the jitted function.
        programs: how many.
        args: its first arguments.
        options: its constants, and what the compiler is told.
    """

    kernel: triton.JITFunction
    programs: int
    args: tuple[object, ...]
    options: Mapping[str, object]


_record: ContextVar[list[Launch] | None] = ContextVar("record", default=None)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Collect launches in place of running them; what kernels should have written is then undefined."""
    launches: list[Launch] = []
    token = _record.set(launches)
    try:
        yield launches
    finally:
        _record.reset(token)


def launch(
    kernel: triton.JITFunction,
    programs: int,
    *args: object,
    device: torch.device,
    tile: Tile | MatmulTile,
    **constants: object,
) -> None:
    """Run `programs` programs of a kernel on `device`; none if there is nothing to do.

    A product and a sum stay two roundings: contraction is off. On the CPU the kernel is compiled for it, unless Triton
    interprets.
    """
    if programs == 0:
        return
    options = constants | {"num_warps": tile.num_warps, "enable_fp_fusion": False}
    record = _record.get()
    if record is not None:
        record.append(Launch(kernel=kernel, programs=programs, args=args, options=options))
    elif device.type != "cpu":
        with torch.get_device_module(device).device(device):
            kernel[(programs,)](*args, **options)
    elif _IS_INTERPRETING:
        kernel[(programs,)](*args, **options)
    else:
        _native(kernel, optimize=programs >= _MANY)[(programs,)](*args, **options)


# Kernels that need what gfx942 lacks, and the GPU for which they are lowered where they run on the CPU.
_LOWERED_FOR: Mapping[str, str] = {"block_scaled_kernel": "gfx950"}
# Fewer programs run sooner than LLVM finds their fastest code.
_MANY = 512
_natives: "dict[tuple[object, bool], Native]" = {}


def _native(kernel: triton.JITFunction, *, optimize: bool) -> "Native":
    # By its function: the hash of a kernel is computed from all its sources.
    key = kernel.fn, optimize
    if key not in _natives:
        # It needs llvmlite, which a machine with a GPU may lack.
        from incref_kernels.triton.native.native import native  # noqa: PLC0415

        _natives[key] = native(kernel, arch=_LOWERED_FOR.get(kernel.fn.__name__, "gfx942"), optimize=optimize)
    return _natives[key]


def lost_flag(device: torch.device, *, may_refuse: bool) -> Tensor | None:
    """Make the place where a kernel notes that some element has no code; None if none can lack one."""
    return torch.zeros(1, dtype=torch.int32, device=device) if may_refuse else None


def raise_if_lost(lost: Tensor | None, fmt: ElementFormat) -> None:
    """Raise `NanError` if a kernel noted a lost element; waits for it."""
    if lost is not None and lost.item():
        raise NanError(f"{fmt.name} has no NaN for the elements that are, or become, NaN; choose another NanRule")


def pattern_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of integers that hold the bit patterns of a float dtype."""
    return {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]


def why_not_tensors(tensors: Mapping[str, Tensor | None]) -> str | None:
    """Say which tensor the kernels can't take: they run on a GPU, or on the CPU if compiled for it or interpreted."""
    devices = {name: x.device for name, x in tensors.items() if x is not None}
    wanted = _device_types()
    for name, device in devices.items():
        if device.type not in wanted:
            return f"it takes tensors on {' or '.join(wanted)}, got {name} on {device}"
    if len(set(devices.values())) > 1:
        placed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        return f"it takes tensors on one device, got {placed}"
    for name, x in tensors.items():
        if x is not None and x.layout is not torch.strided:
            return f"it takes strided tensors, got {name} as {x.layout}"
    return None


@constant_in_graphs
def _device_types() -> tuple[str, ...]:
    if _IS_INTERPRETING:
        return ("cpu",)
    return ("cuda", "xpu", "cpu") if has_native() else ("cuda", "xpu")


def why_not_format(fmt: ElementFormat) -> str | None:
    """Say why the codes of a format can't be made or read."""
    if isinstance(fmt, CodebookFormat):
        return f"it computes codes, and those of {fmt.name} are places in a list"
    return None if fmt.bits <= _WIDEST_CODE else f"it takes codes of at most {_WIDEST_CODE} bits, got {fmt.name}"
