"""Accumulators of machines: one row each, with its evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from incref.errors import UnsupportedError
from incref.formats import Rounding
from incref.numerics.accumulate.models import Accumulator, Aligned, Carry, Promoted, Reordered

__all__ = ["MACHINES", "Evidence", "MachineRow", "find_accumulator"]


class Evidence(Enum):
    """What a row rests on."""

    MEASURED = "measured"
    """`conformance.tensor_core_probe` found the parameters on a device, and they gave every bit of its random results.

    The report is in `conformance/results/tensor_cores.json`, some of the results in `conformance/vectors`.
    """
    REPLAYED = "replayed"
    """Two parties, independent of each other, compared the parameters with the hardware bit for bit."""
    PUBLISHED = "published"
    """Its authors compared the parameters with the hardware bit for bit."""
    SIMULATED = "simulated"
    """The vendor's public functional simulator computes with the parameters; they were not compared with hardware."""
    OPEN = "open"
    """Something is not known, or sources disagree: the row can't be used."""


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """One instruction of one machine.

    Attributes:
        name: of the row.
        formats: of the factors, by their names in `FORMATS`.
        model: the accumulator, or None if the row is open.
        evidence: what the row rests on.
        source: where it was published.
        note: what the parameters are of, or what is open.
        measured: names of the machines in the report, if the row was measured or fitted.
    """

    name: str
    formats: tuple[str, ...]
    model: Accumulator | None
    evidence: Evidence
    source: str
    note: str
    measured: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a row that says one thing in one place and another elsewhere."""
        if (self.model is None) != (self.evidence is Evidence.OPEN):
            raise ValueError(f"{self.name}: a row has a model unless it is open")
        if bool(self.measured) != (self.evidence is Evidence.MEASURED):
            raise ValueError(f"{self.name}: a row that rests on results of a device says which, and no other does")


_H100 = "NVIDIA H100 80GB HBM3, torch 2.11.0+cu130, Triton 3.6.0: conformance/results/tensor_cores.json"
_XIE = "Xie, Wang, Yang, Yang: arXiv 2511.10909, and its simulator MMA-Sim 2.1.1"
_KHATTAK = "Khattak, Mikaitis: arXiv 2512.07004"
_FASI = "Fasi, Higham, Mikaitis, Pranesh: PeerJ Computer Science 7:e330, 2021"
_MMAEMU = "mmaemu 0.1.0, presets and validation notes"
_DEEPSEEK = "DeepSeek-V3: arXiv 2412.19437, 3.3.2 and 3.5.2"
_GAUDI = "HabanaAI/Intel_Gaudi3_Software e6cef1c, functional simulator: fs_fma.cpp, gaudi2_fma.cpp, gaudi3_fma.cpp"
_FP8 = ("float8_e4m3fn", "float8_e5m2")
_HALVES = ("float16", "bfloat16")
_HALVES_OF_FOURS = tuple(k for first in (0, 2) for k in range(32) if k % 4 in (first, first + 1))
_14_BITS = Aligned(group=32, fraction_bits=13, result_bits=13)


def _float32(group: int, fraction_bits: int) -> Aligned:
    return Aligned(group=group, fraction_bits=fraction_bits, result_bits=23)


_ROWS = (
    MachineRow(
        name="hopper_wgmma_fp8",
        formats=_FP8,
        model=_14_BITS,
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_XIE}; {_MMAEMU}; {_DEEPSEEK} (14 bits, groups of 32)",
        note="wgmma with k32; torch._scaled_mm with use_fast_accum, where cuBLAS does not split K",
        measured=(
            "tl.dot float8_e4m3fn max_num_imprecise_acc=None",
            "tl.dot float8_e5m2 max_num_imprecise_acc=None",
            "scaled_mm float8_e4m3fn float8_e4m3fn fast tensor float32",
            "scaled_mm float8_e5m2 float8_e4m3fn fast tensor float32",
            "scaled_mm float8_e4m3fn float8_e4m3fn fast row float32",
        ),
    ),
    MachineRow(
        name="hopper_wgmma_fp8_promoted",
        formats=_FP8,
        model=Promoted(inner=_14_BITS, every=128),
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_MMAEMU}; {_DEEPSEEK} (N_C = 128)",
        note="a new chain of wgmma every 128 products, added in float32; torch._scaled_mm without use_fast_accum, and "
        "tl.dot with max_num_imprecise_acc=128",
        measured=(
            "tl.dot float8_e4m3fn max_num_imprecise_acc=128",
            "tl.dot float8_e5m2 max_num_imprecise_acc=128",
            "scaled_mm float8_e4m3fn float8_e4m3fn slow tensor float32",
            "scaled_mm float8_e5m2 float8_e4m3fn slow tensor float32",
            "scaled_mm float8_e4m3fn float8_e4m3fn slow row float32",
        ),
    ),
    MachineRow(
        name="hopper_wgmma_half",
        formats=_HALVES,
        model=_float32(16, 25),
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_XIE}",
        note="wgmma with k16; torch.mm to float32, where cuBLAS does not split K",
        measured=("tl.dot float16 4 warps", "tl.dot bfloat16 4 warps"),
    ),
    MachineRow(
        name="hopper_wgmma_tf32",
        formats=("tf32",),
        model=_float32(8, 25),
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_XIE}",
        note="wgmma with k8",
        measured=("tl.dot tf32 4 warps",),
    ),
    MachineRow(
        name="hopper_mma_sync_half",
        formats=_HALVES,
        model=_float32(16, 25),
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_XIE}",
        note="mma.sync m16n8k16",
        measured=("tl.dot float16 2 warps", "tl.dot bfloat16 2 warps"),
    ),
    MachineRow(
        name="hopper_mma_sync_tf32",
        formats=("tf32",),
        model=_float32(8, 25),
        evidence=Evidence.MEASURED,
        source=f"{_H100}; {_XIE}",
        note="mma.sync m16n8k8",
        measured=("tl.dot tf32 2 warps",),
    ),
    MachineRow(
        name="hopper_tl_dot_fp8_as_half",
        formats=_FP8,
        model=Reordered(inner=_float32(16, 25), order=_HALVES_OF_FOURS),
        evidence=Evidence.MEASURED,
        source=_H100,
        note="tl.dot with max_num_imprecise_acc=0, by mma.sync of float16: of every 32 products those with k mod 4 in "
        "(0, 1) come first",
        measured=("tl.dot float8_e4m3fn max_num_imprecise_acc=0", "tl.dot float8_e5m2 max_num_imprecise_acc=0"),
    ),
    MachineRow(
        name="ada_mma_fp8",
        formats=_FP8,
        model=Aligned(group=16, fraction_bits=13, result_bits=13),
        evidence=Evidence.REPLAYED,
        source=f"{_XIE}; {_KHATTAK}; {_MMAEMU} (GeForce RTX 4060)",
        note="mma.sync m16n8k32",
    ),
    MachineRow(
        name="ada_mma_half",
        formats=_HALVES,
        model=_float32(8, 24),
        evidence=Evidence.PUBLISHED,
        source=_XIE,
        note="mma.sync",
    ),
    MachineRow(
        name="ampere_mma_half",
        formats=_HALVES,
        model=_float32(8, 24),
        evidence=Evidence.PUBLISHED,
        source=f"{_XIE}; {_FASI} (truncation, one bit beyond float32)",
        note="mma.sync",
    ),
    MachineRow(
        name="volta_mma_fp16",
        formats=("float16",),
        model=_float32(4, 23),
        evidence=Evidence.PUBLISHED,
        source=f"{_XIE}; {_FASI} (truncation, no bit beyond float32)",
        note="mma.sync m8n8k4",
    ),
    MachineRow(
        name="blackwell_tcgen05_fp8",
        formats=_FP8,
        model=_float32(32, 25),
        evidence=Evidence.PUBLISHED,
        source=_XIE,
        note="tcgen05.mma kind::f8f6f4 to float32, on data-centre Blackwell",
    ),
    MachineRow(
        name="blackwell_tcgen05_half",
        formats=_HALVES,
        model=_float32(16, 25),
        evidence=Evidence.PUBLISHED,
        source=_XIE,
        note="tcgen05.mma kind::f16 to float32, on data-centre Blackwell",
    ),
    MachineRow(
        name="blackwell_tcgen05_mx",
        formats=("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4"),
        model=None,
        evidence=Evidence.OPEN,
        source=_XIE,
        note="published as groups of 32 with 25 bits whose exponents include the scales'; no model here has scales",
    ),
    MachineRow(
        name="blackwell_tcgen05_nvfp4",
        formats=("nvfp4",),
        model=None,
        evidence=Evidence.OPEN,
        source=_XIE,
        note="published as 64 products in exact sums of 16 that are aligned by their scales with 35 bits; no model "
        "here has scales",
    ),
    MachineRow(
        name="cdna3_mfma_fp16",
        formats=("float16",),
        model=Aligned(
            group=8,
            fraction_bits=24,
            result_bits=23,
            result_rounding=Rounding.NEAREST_EVEN,
            carry=Carry.REALIGNED,
            carry_bits=31,
        ),
        evidence=Evidence.PUBLISHED,
        source=_XIE,
        note="v_mfma_f32_*_f16",
    ),
    MachineRow(
        name="cdna3_mfma_fp8",
        formats=("float8_e4m3fnuz", "float8_e5m2fnuz"),
        model=None,
        evidence=Evidence.OPEN,
        source=_XIE,
        note="published as even and odd products of 16 in sums of their own that are aligned with each other first; no "
        "model here interleaves",
    ),
    MachineRow(
        name="gaudi2_mme_fp8",
        formats=("float8_e4m3", "float8_e5m2"),
        model=Aligned(
            group=16,
            fraction_bits=24,
            result_bits=23,
            result_rounding=Rounding.NEAREST_EVEN,
            carry=Carry.UNROUNDED,
            flushes=True,
        ),
        evidence=Evidence.SIMULATED,
        source=_GAUDI,
        note="factors enter as float16 values, so that is their format here; a sum that is zero may be -0 there",
    ),
    MachineRow(
        name="gaudi3_mme_fp8",
        formats=("float8_e4m3fn", "float8_e5m2"),
        model=Aligned(group=8, fraction_bits=24, result_bits=23),
        evidence=Evidence.SIMULATED,
        source=_GAUDI,
        note="factors enter as float16 values, so that is their format here; the factors may be of both formats",
    ),
)

MACHINES: Mapping[str, MachineRow] = MappingProxyType({row.name: row for row in _ROWS})
"""Every row by its name."""


def find_accumulator(name: str) -> Accumulator:
    """Look up the accumulator of a machine.

    >>> find_accumulator("ada_mma_fp8").group
    16

    Raises:
        ValueError: if there is no such row.
        UnsupportedError: if the row is open; the message says what is not known.
    """
    if name not in MACHINES:
        raise ValueError(f"no machine is called {name!r}; there are {', '.join(MACHINES)}")
    row = MACHINES[name]
    if row.model is None:
        raise UnsupportedError(f"{name} can't be computed: {row.note} ({row.source})")
    return row.model
