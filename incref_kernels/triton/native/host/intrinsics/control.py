"""Barriers, hints, and what ends a program."""

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.lowering import Simple, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["CONTROL"]

# s_setreg of MODE.FP16_OVFL: register 1, bit 23, one bit.
_FP16_OVERFLOW = 1 | 23 << 6 | 0 << 11


def _barrier(builder: LaneBuilder, _inst: Instruction) -> None:
    builder.meet("s.barrier", all_waves=True)


def _wave_barrier(builder: LaneBuilder, _inst: Instruction) -> None:
    builder.meet("wave.barrier")


def _nothing(_builder: LaneBuilder, _inst: Instruction) -> None:
    """A hint to the scheduler, or a wait for what is done at once here."""


def _setreg(_builder: LaneBuilder, inst: Instruction) -> None:
    """Triton sets MODE.FP16_OVFL where it converts to FP8, so that the hardware's conversions saturate.

    Raises:
        UnsupportedError: for any other mode.
    """
    if constant(inst, 0) != _FP16_OVERFLOW:
        raise UnsupportedError(f"s_setreg {constant(inst, 0)} changes a mode that has no equal on the host")


CONTROL: dict[str, Simple] = {
    "llvm.amdgcn.s.barrier": _barrier,
    "llvm.amdgcn.wave.barrier": _wave_barrier,
    "llvm.amdgcn.s.setreg": _setreg,
    **dict.fromkeys(
        [
            "llvm.amdgcn.s.setprio",
            "llvm.amdgcn.sched.barrier",
            "llvm.amdgcn.sched.group.barrier",
            "llvm.amdgcn.iglp.opt",
            "llvm.amdgcn.s.waitcnt",
            "llvm.amdgcn.s.sleep",
            "llvm.assume",
            "llvm.lifetime.start",
            "llvm.lifetime.end",
            "llvm.experimental.noalias.scope.decl",
        ],
        _nothing,
    ),
}
