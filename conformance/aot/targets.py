"""What the kernels are compiled for, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from triton.backends.compiler import GPUTarget

from incref_kernels.triton.targets import Target

__all__ = ["TARGETS", "AotTarget", "Products"]

_KIB = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Products:
    """How matrix units spell the products of a kind in assembly, as regular expressions; None where they have none."""

    int8: str
    half: str
    fp8: str | None = None
    blocks: str | None = None


@dataclass(frozen=True, kw_only=True)
class AotTarget:
    """A GPU as a row.

    Attributes:
        gpu: what the compiler is told.
        shared: KiB of memory that a program may use.
        products: instructions of its matrix units.
        multiprocessors: of a usual product; how far products of few rows are split depends on it.
        warps: that a multiprocessor of NVIDIA's holds.
        shared_of_all: KiB of memory that its programs share.
    """

    gpu: GPUTarget
    shared: int
    products: Products
    multiprocessors: int
    warps: int = 0
    shared_of_all: int = 0

    @property
    def is_nvidia(self) -> bool:
        """Whether the code is PTX."""
        return self.gpu.backend == "cuda"

    @property
    def launched_on(self) -> Target:
        """The device as launchers see it."""
        arch = f"sm_{self.gpu.arch}" if self.is_nvidia else self.gpu.arch
        return Target(kind=self.gpu.backend, arch=arch, shared=self.shared * _KIB, multiprocessors=self.multiprocessors)

    def occupancy(self, registers: int, shared: int, warps: int) -> int:
        """How many warps a multiprocessor of NVIDIA's holds at a time (CUDA C++ Programming Guide, 16.1).

        Registers are given to a warp in units of 256, and each program takes 1 KiB of shared memory beside its own.
        """
        of_warp = -(-registers * self.gpu.warp_size // 256) * 256
        by_registers = (1 << 16) // (of_warp * warps)
        by_memory = self.shared_of_all * _KIB // (shared + _KIB)
        return min(self.warps // warps, by_registers, by_memory) * warps


_MMA = Products(int8=r"mma\.sync\S*\.s8\.s8", half=r"mma\.sync\S*\.bf16\.bf16")
_MMA_FP8 = Products(int8=_MMA.int8, half=_MMA.half, fp8=r"mma\.sync\S*\.e4m3\.e4m3")
# Tiles of few rows are multiplied by single warps, where factors are integers.
_MMA_BLOCKS = Products(
    int8=_MMA.int8,
    half=_MMA.half,
    fp8=_MMA_FP8.fp8,
    blocks=r"mma\.sync\S*kind::(?:mxf8f6f4|mxf4)\S*block_scale",
)
_WGMMA = Products(int8=r"(?:wgmma|mma\.sync)\S*\.s8\.s8", half=r"wgmma\S*\.bf16\.bf16", fp8=r"wgmma\S*\.e4m3\.e4m3")
_TCGEN05 = Products(
    int8=r"(?:tcgen05\.mma\S*kind::i8|mma\.sync\S*\.s8\.s8)",
    half=r"tcgen05\.mma\S*kind::f16",
    fp8=r"tcgen05\.mma\S*f8f6f4",
    blocks=r"tcgen05\.mma\S*kind::(?:mxf8f6f4|mxf4)\S*block_scale",
)
# Its units for groups of warps have no integers.
_TCGEN05_FLOATS = Products(int8=_MMA.int8, half=_TCGEN05.half, fp8=_TCGEN05.fp8, blocks=_TCGEN05.blocks)
_MFMA_BF16 = r"v_mfma_f32_\d+x\d+x\d+_?bf16"
_WMMA_BF16 = r"v_wmma_f32_16x16x16_bf16"


def _nvidia(arch: int, products: Products, multiprocessors: int, *, shared: int, warps: int, of_all: int) -> AotTarget:
    return AotTarget(
        gpu=GPUTarget("cuda", arch, 32),
        shared=shared,
        products=products,
        multiprocessors=multiprocessors,
        warps=warps,
        shared_of_all=of_all,
    )


def _amd(arch: str, lanes: int, shared: int, products: Products, multiprocessors: int) -> AotTarget:
    return AotTarget(
        gpu=GPUTarget("hip", arch, lanes), shared=shared, products=products, multiprocessors=multiprocessors
    )


TARGETS: Mapping[str, AotTarget] = {
    "sm_80": _nvidia(80, _MMA, 108, shared=163, warps=64, of_all=164),
    "sm_86": _nvidia(86, _MMA, 84, shared=99, warps=48, of_all=100),
    "sm_89": _nvidia(89, _MMA_FP8, 142, shared=99, warps=48, of_all=100),
    "sm_90": _nvidia(90, _WGMMA, 132, shared=227, warps=64, of_all=228),
    "sm_100": _nvidia(100, _TCGEN05, 148, shared=227, warps=64, of_all=228),
    "sm_103": _nvidia(103, _TCGEN05_FLOATS, 148, shared=227, warps=64, of_all=228),
    "sm_120": _nvidia(120, _MMA_BLOCKS, 170, shared=99, warps=48, of_all=100),
    "gfx90a": _amd("gfx90a", 64, 64, Products(int8=r"v_mfma_i32_\S+i8", half=_MFMA_BF16), 104),
    "gfx942": _amd("gfx942", 64, 64, Products(int8=r"v_mfma_i32_\S+i8", half=_MFMA_BF16, fp8=r"v_mfma\S+fp8_fp8"), 304),
    "gfx950": _amd(
        "gfx950",
        64,
        160,
        Products(
            int8=r"v_mfma_i32_\S+i8",
            half=_MFMA_BF16,
            fp8=r"v_mfma\S+(?:fp8_fp8|f8f6f4)",
            blocks=r"v_mfma_scale_f32_\S+f8f6f4",
        ),
        256,
    ),
    "gfx1100": _amd("gfx1100", 32, 64, Products(int8=r"v_wmma_i32_16x16x16_iu8", half=_WMMA_BF16), 96),
    "gfx1201": _amd(
        "gfx1201", 32, 64, Products(int8=r"v_wmma_i32_16x16x16_iu8", half=_WMMA_BF16, fp8=r"v_wmma\S+fp8_fp8"), 64
    ),
}
"""The targets, by name (CUDA C++ Programming Guide, 16.1, and the ISA manuals of AMD)."""
