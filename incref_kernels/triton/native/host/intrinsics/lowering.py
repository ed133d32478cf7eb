"""What defines an intrinsic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Literal, Typed

__all__ = ["Exchange", "Lowering", "Simple", "WaveOperation", "constant"]

# Writes the meaning of a call; the name of the result, or None where the call has none.
Simple = Callable[[LaneBuilder, Instruction], "str | None"]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Lanes show values to their wave, then each reads what it needs.

    Attributes:
        show: writes what comes before the meeting; the values that are shown.
        read: writes what comes after it, given where the values lie; the name of the result.
        of_all: whether the values of lanes that don't take part can be read too.
    """

    show: Callable[[LaneBuilder, Instruction], Sequence[Typed]]
    read: Callable[[LaneBuilder, Instruction, Sequence[int]], str]
    of_all: bool = False


@dataclass(frozen=True, kw_only=True)
class WaveOperation:
    """A function computes the results of all lanes of a wave.

    Attributes:
        shown: which operands the lanes show.
        prepare: makes the functions part of the module; which to call, given the names of these operands and of the
            result. Calls that are the same for two operations are made once.
    """

    shown: tuple[int, ...]
    prepare: Callable[[LaneBuilder, Instruction, Sequence[str], str], Sequence[tuple[str, tuple[str | int, ...]]]]


Lowering = Simple | Exchange | WaveOperation


def constant(inst: Instruction, index: int) -> int:
    """An operand that the instruction set wants to be a constant.

    Raises:
        UnsupportedError: if it is none.
    """
    value = inst.operands[index].value
    if isinstance(value, Literal) and value.text in {"true", "false"}:
        return int(value.text == "true")
    if not isinstance(value, Literal) or not value.text.lstrip("-").isdigit():
        raise UnsupportedError(f"operand {index} of {inst.callee} must be a constant, got {value}")
    return int(value.text)
