"""What the machine code of a kernel looks like, and what must not be in it."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import triton
from triton.compiler import CompiledKernel

from conformance.aot.targets import AotTarget

__all__ = ["Code", "read_code"]


@dataclass(kw_only=True)
class Code:
    """What the machine code of one kernel for one target looks like.

    Attributes:
        registers: of a thread.
        spills: bytes of stack on NVIDIA; spilled registers and bytes of scratch memory on AMD.
        shared: bytes of memory that the threads of a program share.
        occupancy: warps that a multiprocessor of NVIDIA's holds; waves that a SIMD of AMD's does.
        instructions: of a warp, counted in the listing: loops once.
        wide_loads: reads of 16 bytes.
        wide_stores: writes of 16 bytes.
        units: the instruction of a matrix unit that there is most of, or None.
        faults: what must not be there.
    """

    registers: int = 0
    spills: int = 0
    shared: int = 0
    occupancy: int = 0
    instructions: int = 0
    wide_loads: int = 0
    wide_stores: int = 0
    units: str | None = None
    faults: list[str] = field(default_factory=list)


_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_MATRIX_UNITS = r"\b(?:wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_s?mfma|v_s?wmma)[\w.:]*"
_FMA = "fma"
_FORBIDDEN = {
    _FMA: "a contracted product and sum",
    r"\.ftz": "a flush of subnormals",
    r"\.approx": "an approximation",
    r"div\.full": "an approximate division",
}
_CONTRACTS = r"= f(?:mul|add|sub) (?:\w+ )*(?:contract|fast)\b"
_FUSED = r"v_(?:pk_|dual_)?(?:fma|mad|mac|fmac)_(?:mix_)?f(?:32|64)"


def read_code(
    compiled: CompiledKernel, target: AotTarget, *, warps: int, products: str | None, is_streaming: bool
) -> Code:
    """Read the code of a kernel, and judge it.

    Args:
        compiled: the kernel.
        target: that it was compiled for.
        warps: of a program.
        products: the kind of its products, as in `Build`.
        is_streaming: whether it must read or write 16 bytes at a time.
    """
    code = Code(shared=compiled.metadata.shared)
    text = compiled.asm["ptx" if target.is_nvidia else "amdgcn"]
    if target.is_nvidia:
        _read_nvidia(code, text, compiled.asm["cubin"])
        code.occupancy = target.occupancy(code.registers, code.shared, warps)
    else:
        _read_amd(code, text)
    code.faults += _inexact(compiled, text, is_nvidia=target.is_nvidia, may_fuse=products == "single")
    units = Counter(re.findall(_MATRIX_UNITS, text))
    code.units = units.most_common(1)[0][0] if units else None
    if products in ("int8", "half", "fp8", "blocks"):
        wanted = getattr(target.products, products)
        if not any(re.fullmatch(f"{wanted}.*", unit) for unit in units):
            code.faults.append(f"no instruction like {wanted}, but {code.units}")
    wide = code.wide_loads + code.wide_stores
    room = target.shared << 10
    bad = {
        f"spills: {code.spills}": code.spills > 0,
        "no access of 16 bytes": is_streaming and wide == 0,
        f"{code.shared} bytes of shared memory, of {room}": code.shared > room,
        "no program fits a multiprocessor": code.occupancy == 0,
    }
    code.faults += [what for what, is_so in bad.items() if is_so]
    return code


def _inexact(compiled: CompiledKernel, text: str, *, is_nvidia: bool, may_fuse: bool) -> list[str]:
    """Find instructions that round otherwise than the kernel says."""
    ttir = compiled.asm["ttir"]
    if "math.fma" in ttir:
        # The kernel asks for some itself; the compiler must neither be free to make more of them, nor have made any.
        if compiled.metadata.enable_fp_fusion or re.search(_CONTRACTS, compiled.asm["llir"]):
            return ["leave to contract products and sums"]
        asked = _count_fused(r"@llvm\.fma\.(?:v(\d+))?f\d+\(", compiled.asm["llir"])
        may_fuse = not is_nvidia or _count_fused(r"\bfma\.rn\.f\d+(?:x(\d+))?", text) <= asked
    if is_nvidia:
        patterns = {pattern: what for pattern, what in _FORBIDDEN.items() if not (pattern == _FMA and may_fuse)}
        return [f"{what} in PTX" for pattern, what in patterns.items() if re.search(pattern, text)]
    # A division is a sequence of fused operations, and rounded once.
    may_fuse = may_fuse or bool(re.search(r"precise_divf|arith\.divf", ttir))
    return ["a contracted product and sum"] if re.search(_FUSED, text) and not may_fuse else []


def _count_fused(pattern: str, text: str) -> int:
    """Count fused operations, each as often as it has elements."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("declare"))
    return sum(int(width or 1) for width in re.findall(pattern, lines))


def _read_nvidia(code: Code, ptx: str, cubin: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run(_BIN / "cuobjdump", "-res-usage", file.name)
        listing = _run(_BIN / "nvdisasm", "-c", file.name)
    code.registers = int(re.findall(r"REG:(\d+)", usage)[0])
    code.spills = int(re.findall(r"STACK:(\d+)", usage)[0])
    # Behind the last one there is padding.
    code.instructions = len(
        re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?!NOP|BRA `\(\.L_x_\d+\);\s*$)", listing, re.MULTILINE)
    )
    code.wide_loads = len(re.findall(r"ld\.global\S*\.v4\.b32|cp\.async\.c[ag]\S* \[.*\], \[.*\], 0x10", ptx))
    code.wide_loads += len(re.findall(r"ld\.global\S*\.v8\.b32", ptx))
    code.wide_stores = len(re.findall(r"st\.global\S*\.v[48]\.b32", ptx))


def _read_amd(code: Code, listing: str) -> None:
    code.registers = int(re.findall(r"\.vgpr_count:\s+(\d+)", listing)[0])
    code.spills = sum(
        int(found)
        for key in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
        for found in re.findall(rf"\.{key}:\s+(\d+)", listing)
    )
    code.occupancy = int(re.findall(r"^;\s*Occupancy:\s*(\d+)", listing, re.MULTILINE)[0])
    code.instructions = len(re.findall(r"^\t[sv]_\w+|^\t(?:global|buffer|ds|flat)_\w+", listing, re.MULTILINE))
    code.wide_loads = len(re.findall(r"(?:global|buffer)_load(?:_lds)?_(?:dwordx4|b128)", listing))
    code.wide_stores = len(re.findall(r"(?:global|buffer)_store_(?:dwordx4|b128)", listing))


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout  # noqa: S603
