"""Bring exchanges that don't wait for each other's results together, so that the lanes meet once for all of them."""

from collections.abc import Callable, Sequence

from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Local, walk

__all__ = ["gathered"]

_MEMORY = {"load", "store", "cmpxchg", "atomicrmw", "fence", "alloca", "br", "switch", "ret", "unreachable", "phi"}


def gathered(
    instructions: Sequence[Instruction],
    is_exchange: Callable[[Instruction], bool],
    is_pure_call: Callable[[Instruction], bool],
) -> list[Instruction]:
    """Reorder a block's instructions.

    Between two instructions that touch memory, branch or have an effect, the others come in the order of how many
    exchanges they depend on there, exchanges of equal depth side by side. Nothing is moved across such an instruction.
    """
    result: list[Instruction] = []
    window: list[Instruction] = []
    for inst in instructions:
        if inst.opcode in _MEMORY or (inst.opcode == "call" and not is_exchange(inst) and not is_pure_call(inst)):
            result += _by_depth(window, is_exchange)
            result.append(inst)
            window = []
        else:
            window.append(inst)
    return result + _by_depth(window, is_exchange)


def _by_depth(window: Sequence[Instruction], is_exchange: Callable[[Instruction], bool]) -> list[Instruction]:
    if sum(map(is_exchange, window)) < 2:
        return list(window)
    # Where an instruction stands: (exchanges before it, whether it is one). Its result is available one step later.
    ready: dict[str, int] = {}
    keyed = []
    for inst in window:
        names = (part.name for operand in inst.operands for part in walk(operand.value) if isinstance(part, Local))
        depth = max((ready.get(name, 0) for name in names), default=0)
        if inst.result:
            ready[inst.result] = depth + is_exchange(inst)
        keyed.append(((depth, is_exchange(inst)), inst))
    return [inst for _, inst in sorted(keyed, key=lambda pair: pair[0])]
