"""Write an instruction that means on the host what it means on the GPU."""

from collections.abc import Callable

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.parse_instructions import BINARY, CASTS
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["render"]


def render(inst: Instruction) -> str:
    """Write `inst`, without its metadata and promises.

    Raises:
        UnsupportedError: for an instruction that has no writer.
    """
    if (writer := _WRITERS.get(inst.opcode)) is None:
        raise UnsupportedError(f"the instruction {inst.opcode!r} can't be written for the host")
    text = writer(inst)
    return f"{inst.result} = {text}" if inst.result else text


def _list(operands: tuple[Typed, ...]) -> str:
    return ", ".join(map(str, operands))


def _plain(inst: Instruction) -> str:
    return f"{inst.opcode} {_list(inst.operands)}"


def _binary(inst: Instruction) -> str:
    left, right = inst.operands
    return f"{inst.opcode} {left}, {right.value}"


def _compare(inst: Instruction) -> str:
    left, right = inst.operands
    return f"{inst.opcode} {inst.words[0]} {left}, {right.value}"


def _cast(inst: Instruction) -> str:
    # All address spaces are one on the host.
    opcode = "bitcast" if inst.opcode == "addrspacecast" else inst.opcode
    return f"{opcode} {inst.operands[0]} to {inst.type}"


def _address(inst: Instruction) -> str:
    return f"getelementptr {inst.source}, {_list(inst.operands)}"


def _aligned(inst: Instruction) -> str:
    return f", align {inst.alignment}" if inst.alignment else ""


def _load(inst: Instruction) -> str:
    atomic = "atomic " if inst.words else ""
    return f"load {atomic}{inst.type}, {inst.operands[0]} {' '.join(inst.words)}{_aligned(inst)}"


def _store(inst: Instruction) -> str:
    atomic = "atomic " if inst.words else ""
    return f"store {atomic}{_list(inst.operands)} {' '.join(inst.words)}{_aligned(inst)}"


def _exchange(inst: Instruction) -> str:
    return f"cmpxchg {_list(inst.operands)} {' '.join(inst.words)}{_aligned(inst)}"


def _update(inst: Instruction) -> str:
    operation, *orderings = inst.words
    return f"atomicrmw {operation} {_list(inst.operands)} {' '.join(orderings)}{_aligned(inst)}"


def _fence(inst: Instruction) -> str:
    return f"fence {' '.join(inst.words)}"


def _indexed(inst: Instruction) -> str:
    return f"{inst.opcode} {_list(inst.operands)}, {', '.join(map(str, inst.indices))}"


def _branch(inst: Instruction) -> str:
    labels = [f"label {label}" for label in inst.labels]
    return "br " + ", ".join([*map(str, inst.operands), *labels])


def _switch(inst: Instruction) -> str:
    value, *cases = inst.operands
    default, *labels = (f"label {label}" for label in inst.labels)
    pairs = " ".join(f"{case}, {label}" for case, label in zip(cases, labels, strict=True))
    return f"switch {value}, {default} [ {pairs} ]"


def _alloca(inst: Instruction) -> str:
    count = f", {inst.operands[0]}" if inst.operands else ""
    return f"alloca {inst.source}{count}{_aligned(inst)}"


def _unreachable(_inst: Instruction) -> str:
    return "unreachable"


def _call(inst: Instruction) -> str:
    return f"call {inst.type} {inst.callee}({_list(inst.operands)})"


_WRITERS: dict[str, Callable[[Instruction], str]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(CASTS, _cast),
    **dict.fromkeys(["fneg", "freeze", "select", "extractelement", "insertelement", "shufflevector"], _plain),
    **dict.fromkeys(["icmp", "fcmp"], _compare),
    **dict.fromkeys(["extractvalue", "insertvalue"], _indexed),
    "getelementptr": _address,
    "load": _load,
    "store": _store,
    "cmpxchg": _exchange,
    "atomicrmw": _update,
    "fence": _fence,
    "br": _branch,
    "switch": _switch,
    "alloca": _alloca,
    "unreachable": _unreachable,
    "call": _call,
}
