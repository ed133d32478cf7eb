"""Every intrinsic that may appear, and what defines it."""

import re

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.approximate import APPROXIMATE
from incref_kernels.triton.native.host.intrinsics.arithmetic import ARITHMETIC, multiply_add
from incref_kernels.triton.native.host.intrinsics.control import CONTROL
from incref_kernels.triton.native.host.intrinsics.crosslane import CROSSLANE
from incref_kernels.triton.native.host.intrinsics.dot import DOTS
from incref_kernels.triton.native.host.intrinsics.fp8 import decoders
from incref_kernels.triton.native.host.intrinsics.ids import IDS
from incref_kernels.triton.native.host.intrinsics.libdevice import find_device_function
from incref_kernels.triton.native.host.intrinsics.lowering import Lowering
from incref_kernels.triton.native.host.intrinsics.matrix import mfma
from incref_kernels.triton.native.host.intrinsics.matrix_scaled import MFMA_SCALED
from incref_kernels.triton.native.host.intrinsics.printing import PRINTING
from incref_kernels.triton.native.host.intrinsics.scaled_casts import SCALED_CASTS
from incref_kernels.triton.native.host.intrinsics.transposed_reads import TRANSPOSED_READS
from incref_kernels.triton.native.host.narrow import fused as fused_narrow

__all__ = ["FIXED", "base_name", "find_lowering", "is_host_intrinsic", "meets"]

# What LLVM defines for every target, with one meaning: the host's LLVM lowers it.
_HOST = re.compile(
    r"llvm\.(fabs|copysign|floor|ceil|trunc|rint|nearbyint|roundeven|round|sqrt|exp2?|exp10|log2?|log10|sin|cos|tan|pow|fma|"
    r"ldexp|frexp|is\.fpclass|smax|smin|umax|umin|abs|ctpop|ctlz|cttz|bitreverse|bswap|fshl|fshr|"
    r"[us](add|sub|mul)\.(sat|with\.overflow)|[us]shl\.sat|fpto[us]i\.sat|vector\.reduce\.(add|mul|and|or|xor|[us]m(ax|in))|"
    r"[us]cmp)\.[a-z0-9.]+"
)
# Which the host's LLVM hands to a function that is nowhere.
_NARROW_FMA = re.compile(r"llvm\.fma\.(v\d+)?b?f16")
# Intrinsics at which the lanes of a wave, or all of them, wait for each other.
_MEETING = {*CROSSLANE, *TRANSPOSED_READS, "llvm.amdgcn.s.barrier", "llvm.amdgcn.wave.barrier"}
FIXED: dict[str, Lowering] = {
    **IDS,
    **CONTROL,
    **CROSSLANE,
    **TRANSPOSED_READS,
    **ARITHMETIC,
    **APPROXIMATE,
    **DOTS,
}


def is_host_intrinsic(name: str) -> bool:
    """Whether the host's LLVM defines the function `name`, given without its `@`."""
    return _HOST.fullmatch(name) is not None and not _NARROW_FMA.fullmatch(name)


def base_name(name: str) -> str:
    """Take the overloaded types off the name of an intrinsic.

    >>> base_name("llvm.amdgcn.update.dpp.v2f32")
    'llvm.amdgcn.update.dpp'
    """
    parts = name.split(".")
    while len(parts) > 2 and re.fullmatch(r"(v\d+)?(i\d+|f\d+|bf16|p\d+)", parts[-1]):
        parts.pop()
    return ".".join(parts)


def meets(name: str) -> bool:
    """Whether lanes wait for each other in the intrinsic `name`."""
    return base_name(name) in _MEETING or name.startswith("llvm.amdgcn.mfma.")


def find_lowering(name: str, *, arch: str, fused: bool) -> Lowering:
    """Find what defines the intrinsic `name`.

    Args:
        name: the function, without its `@`.
        arch: the GPU that Triton compiled for.
        fused: whether a multiplication and an addition may become one operation.

    Raises:
        UnsupportedError: for an intrinsic that is not known.
    """
    found: Lowering | None = FIXED.get(base_name(name))
    if found is not None:
        return found
    if (found := PRINTING.get(name) or SCALED_CASTS.get(name)) is not None or (
        found := decoders(arch).get(name)
    ) is not None:
        return found
    if name.startswith(("__oc", "__nv_")):
        return find_device_function(name)
    if _NARROW_FMA.fullmatch(name):
        return fused_narrow
    if name.startswith("llvm.fmuladd."):
        return lambda builder, inst: multiply_add(builder, inst, fused=fused)
    if name.startswith("llvm.amdgcn.mfma."):
        return MFMA_SCALED if name.startswith("llvm.amdgcn.mfma.scale.") else mfma(arch)
    raise UnsupportedError(f"the function {name} of {arch} is not known on the host")
