"""Whether lanes of a wave may wait for each other at different places.

A GPU runs both sides of such a branch, each with its lanes, until all are at one place again. To emulate that costs
time, so it's done only for kernels that need it. Where the answer is wrong the run ends with an error.
"""

from collections.abc import Callable, Mapping

from incref_kernels.triton.native.llir.model import Function, Instruction
from incref_kernels.triton.native.llir.values import Local, walk

__all__ = ["may_diverge"]

# Instructions whose result is the same in all lanes if their operands are.
_ALIKE = {
    "add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "shl", "lshr", "ashr", "and", "or", "xor", "icmp", "fcmp",
    "fadd", "fsub", "fmul", "fdiv", "frem", "fneg", "trunc", "zext", "sext", "fptrunc", "fpext", "fptoui", "fptosi",
    "uitofp", "sitofp", "ptrtoint", "inttoptr", "bitcast", "addrspacecast", "select", "freeze", "getelementptr", "load",
    "extractelement", "insertelement", "shufflevector", "extractvalue", "insertvalue", "phi",
}  # fmt: skip
# Functions whose result is the same in all lanes.
_SAME = ("workgroup.id", "readfirstlane", "readlane", "ballot", "implicitarg.ptr")
_END = "end"


def may_diverge(kernel: Function, stops: Callable[[Instruction], bool], pure: Callable[[Instruction], bool]) -> bool:
    """Find out by what each branch depends on, and where its sides lead.

    Args:
        kernel: the kernel.
        stops: whether lanes wait for each other at a call.
        pure: whether a call's result is the same in all lanes if its operands are.
    """
    different = _different(kernel, pure)
    first = _first_stops(kernel, stops)
    for block in kernel.blocks:
        branch = block.instructions[-1]
        if len(branch.labels) > 1 and _names(branch) & different:
            found = set().union(*(first[label] for label in branch.labels))
            if len(found) > 1:
                return True
    return False


def _names(inst: Instruction) -> set[str]:
    return {part.name for operand in inst.operands for part in walk(operand.value) if isinstance(part, Local)}


def _different(kernel: Function, pure: Callable[[Instruction], bool]) -> set[str]:
    """The values that may differ between the lanes of a wave."""
    different: set[str] = set()
    changed = True
    while changed:
        changed = False
        for block in kernel.blocks:
            for inst in block.instructions:
                if inst.result and inst.result not in different and _differs(inst, different, pure):
                    different.add(inst.result)
                    changed = True
    return different


def _differs(inst: Instruction, different: set[str], pure: Callable[[Instruction], bool]) -> bool:
    if inst.callee is not None and inst.callee.removeprefix("@llvm.amdgcn.").startswith(_SAME):
        return False
    if inst.opcode in _ALIKE or (inst.opcode == "call" and pure(inst)):
        return bool(_names(inst) & different)
    return True


def _first_stops(kernel: Function, stops: Callable[[Instruction], bool]) -> Mapping[str, set[str]]:
    """For each block the places where lanes that begin it may stop first."""
    blocks = {block.label: block for block in kernel.blocks}
    own = {
        label: next((f"{label} {index}" for index, inst in enumerate(block.instructions) if stops(inst)), None)
        for label, block in blocks.items()
    }
    found: dict[str, set[str]] = {label: {stop} if stop else set() for label, stop in own.items()}
    changed = True
    while changed:
        changed = False
        for label, block in blocks.items():
            if own[label] is None:
                labels = block.instructions[-1].labels
                after = set().union(*(found[target] for target in labels)) if labels else {_END}
                changed |= not after <= found[label]
                found[label] |= after
    return found
