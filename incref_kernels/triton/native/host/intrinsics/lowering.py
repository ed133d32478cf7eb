"""What defines an intrinsic: a function that writes its meaning and names the result."""

from collections.abc import Callable

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.lanes import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Literal

__all__ = ["Lowering", "constant"]

# Writes the meaning of a call; the value's name, or None where the call has none.
Lowering = Callable[[LaneBuilder, Instruction], "str | None"]


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
