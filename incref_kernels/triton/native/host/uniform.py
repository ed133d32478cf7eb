"""Values that all lanes of a wave compute alike from its first lane's number: no lane has to wait for them.

Triton asks `readfirstlane` for the number of the warp, `readfirstlane(workitem.id) / 64`. Where the operand is computed
from the lane's number by integer arithmetic alone, its value in the first lane is that arithmetic on the first number.
"""

from collections.abc import Mapping
from dataclasses import replace

from incref_kernels.triton.native.host.render import render
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType
from incref_kernels.triton.native.llir.values import Literal, Local, Typed, Value

__all__ = ["wave_value"]

_PURE = {"add", "sub", "mul", "shl", "lshr", "ashr", "and", "or", "xor", "udiv", "urem", "zext", "sext", "trunc"}


def wave_value(builder: LaneBuilder | None, value: Value, definitions: Mapping[str, Instruction]) -> str:
    """Write the computation of `value` for the wave's first lane.

    Args:
        builder: what to write with, or None to only find out whether it can be done.
        value: the operand of `readfirstlane`.
        definitions: the kernel's instructions, by result.

    Returns:
        The name of the value; an empty string where it isn't such a value.
    """
    if isinstance(value, Literal):
        return str(value)
    inst = definitions.get(value.name) if isinstance(value, Local) else None
    if inst is None:
        return ""
    if inst.callee == "@llvm.amdgcn.workitem.id.x":
        return builder.value("and i32 %tid, -64") if builder else "%tid"
    is_pure = inst.opcode in _PURE and isinstance(inst.type, IntType)
    parts = [wave_value(builder, operand.value, definitions) for operand in inst.operands] if is_pure else [""]
    if not all(parts):
        return ""
    if builder is None:
        return parts[0]
    operands = tuple(Typed(old.type, Literal(new)) for old, new in zip(inst.operands, parts, strict=True))
    return builder.value(render(replace(inst, result=None, operands=operands)))
