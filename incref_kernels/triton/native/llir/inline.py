"""Functions that a kernel calls, put in place of their calls (`@triton.jit(noinline=True)` makes some)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.model import Block, Function, Instruction
from incref_kernels.triton.native.llir.types import VoidType
from incref_kernels.triton.native.llir.values import Local, Typed, Value, with_locals

__all__ = ["inlined"]


def inlined(kernel: Function, functions: Mapping[str, Function]) -> Function:
    """Write a kernel that calls none of `functions`, and does what `kernel` does.

    Raises:
        UnsupportedError: for a function that calls itself, or never returns.
    """
    blocks = list(kernel.blocks)
    # The functions whose bodies a block lies in, by its label.
    inside: dict[str, tuple[str, ...]] = {}
    index = count = 0
    while index < len(blocks):
        block = blocks[index]
        place = next((i for i, inst in enumerate(block.instructions) if inst.callee in functions), None)
        if place is None:
            index += 1
            continue
        count += 1
        call = block.instructions[place]
        assert call.callee is not None
        names = (*inside.get(block.label, ()), call.callee)
        if call.callee in names[:-1]:
            raise UnsupportedError(f"the function {call.callee[1:]} calls itself, which is not supported")
        body, after = _body(functions[call.callee], call, f"%i{count}.")
        after.instructions += block.instructions[place + 1 :]
        before = Block(
            label=block.label, instructions=[*block.instructions[:place], _branch(body[0].label, call.location)]
        )
        blocks[index : index + 1] = [before, *body, after]
        inside |= {inner.label: names for inner in body} | {after.label: names[:-1]}
        _come_from(blocks, block.label, after.label)
    return replace(kernel, blocks=_with_memory_first(blocks)) if count else kernel


def _body(function: Function, call: Instruction, prefix: str) -> tuple[list[Block], Block]:
    """A copy of the function's blocks for one call, and the block that follows them."""
    given = dict(zip(function.parameters, (operand.value for operand in call.operands), strict=True))

    def value_of(name: str) -> Value:
        return given.get(name) or Local(_named(prefix, name))

    after = Block(label=f"{prefix}after")
    returned: list[tuple[Typed | None, str]] = []
    blocks = []
    for block in function.blocks:
        copy = Block(label=_named(prefix, block.label))
        for inst in block.instructions:
            operands = tuple(replace(o, value=with_locals(o.value, value_of)) for o in inst.operands)
            if inst.opcode == "ret":
                returned.append((operands[0] if operands else None, copy.label))
                copy.instructions.append(_branch(after.label, inst.location))
                continue
            copy.instructions.append(
                replace(
                    inst,
                    result=inst.result and _named(prefix, inst.result),
                    operands=operands,
                    labels=tuple(_named(prefix, label) for label in inst.labels),
                )
            )
        blocks.append(copy)
    after.instructions += _results(function, call, returned)
    return blocks, after


def _results(
    function: Function, call: Instruction, returned: Sequence[tuple[Typed | None, str]]
) -> Iterator[Instruction]:
    if not returned:
        raise UnsupportedError(f"the function {function.name[1:]} never returns, which is not supported")
    if call.result is not None and not isinstance(call.type, VoidType):
        yield Instruction(
            opcode="phi",
            type=call.type,
            result=call.result,
            operands=tuple(value for value, _ in returned if value is not None),
            labels=tuple(label for _, label in returned),
            location=call.location,
        )


def _named(prefix: str, name: str) -> str:
    return prefix + name.removeprefix("%")


def _branch(label: str, location: int | None) -> Instruction:
    return Instruction(opcode="br", type=VoidType(), labels=(label,), location=location)


def _come_from(blocks: Sequence[Block], old: str, new: str) -> None:
    """The end of the block `old` is that of the block `new` now: say so where values are joined."""
    for block in blocks:
        for index, inst in enumerate(block.instructions):
            if inst.opcode == "phi" and old in inst.labels:
                labels = tuple(new if label == old else label for label in inst.labels)
                block.instructions[index] = replace(inst, labels=labels)


def _with_memory_first(blocks: Sequence[Block]) -> list[Block]:
    """A function's own memory becomes the kernel's, made once at its start."""
    made = [inst for block in blocks for inst in block.instructions if inst.opcode == "alloca"]
    first, *others = (
        Block(label=block.label, instructions=[inst for inst in block.instructions if inst.opcode != "alloca"])
        for block in blocks
    )
    return [Block(label=first.label, instructions=[*made, *first.instructions]), *others]
