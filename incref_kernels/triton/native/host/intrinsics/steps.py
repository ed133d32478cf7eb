"""An intrinsic as a few instructions in a row."""

from collections.abc import Callable

from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["steps"]


def steps(*texts: str) -> Callable[[LaneBuilder, Instruction], str]:
    """Make the instructions `texts` what defines an intrinsic; the last one gives its result.

    In them `{a}`, `{b}` and `{c}` are the operands with their types, `{A}`, `{B}` and `{C}` without; `{T}` is the type
    of the result; `{0}` is what the first of the instructions gives, and so on.
    """

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        named = {letter: str(operand) for letter, operand in zip("abc", inst.operands, strict=False)}
        values = {letter: str(operand.value) for letter, operand in zip("ABC", inst.operands, strict=False)}
        results: list[str] = []
        for text in texts:
            results.append(builder.value(text.format(*results, **named, **values, T=inst.type)))
        return results[-1]

    return lower
