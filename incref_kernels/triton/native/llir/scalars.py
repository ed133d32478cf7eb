"""A kernel whose vectors are taken apart, so that the host's LLVM puts together those of the width that it has.

Triton's lowering chose them for a GPU, two or four elements long; the host's LLVM leaves a vector as long as it is.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import gcd

from incref_kernels.triton.native.llir.model import Block, Function, Instruction
from incref_kernels.triton.native.llir.parse_instructions import BINARY, CASTS
from incref_kernels.triton.native.llir.types import FloatType, IntType, Type, VectorType
from incref_kernels.triton.native.llir.values import Aggregate, Literal, Local, Splat, Typed, Value, walk

__all__ = ["scalarized"]

_LONGEST = 16
# What is computed element by element; a bitcast may join elements.
_EACH = {*BINARY, *CASTS, "fneg", "freeze", "icmp", "fcmp", "select"} - {"bitcast"}
_EACH_CALLED = re.compile(r"@llvm\.(?:smin|smax|umin|umax)\.v\d+i\d+")
_INDEX = IntType(32)


def scalarized(kernel: Function) -> Function:
    """Write a kernel that computes element by element what `kernel` computes on vectors of at most 16.

    A vector is loaded element by element if nothing else reads it; one that something else reads is put together again.
    """
    writer = _Writer(whole=_needed_whole(kernel))
    return replace(kernel, blocks=[writer.block(block) for block in kernel.blocks])


def _needed_whole(kernel: Function) -> set[str]:
    """Find the vectors that something reads that is not taken apart, or that stands before their definition."""
    found, defined = set[str](), set[str]()
    for block in kernel.blocks:
        for inst in block.instructions:
            known = defined if _is_taken_apart(inst) else ()
            names = {part.name for o in inst.operands for part in walk(o.value) if isinstance(part, Local)}
            found |= names.difference(known)
            if inst.result is not None:
                defined.add(inst.result)
    return found


def _is_taken_apart(inst: Instruction) -> bool:
    counts = {kind.count for kind in (inst.type, *(o.type for o in inst.operands)) if isinstance(kind, VectorType)}
    if inst.result is None or not counts or max(counts) > _LONGEST:
        return False
    if inst.opcode == "load":
        return not inst.words and isinstance(inst.type, VectorType) and _has_bytes(inst.type.element)
    if inst.opcode in {"extractelement", "insertelement"}:
        return _place(inst.operands[-1].value) in range(max(counts))
    if inst.opcode == "shufflevector":
        return True
    is_each = inst.opcode in _EACH or _EACH_CALLED.fullmatch(inst.callee or "") is not None
    return is_each and len(counts) == 1 and isinstance(inst.type, VectorType)


def _has_bytes(kind: Type) -> bool:
    return isinstance(kind, FloatType) or (isinstance(kind, IntType) and kind.bits % 8 == 0)


def _place(index: Value) -> int | None:
    """The number that an index or a part of a mask is; None for what is none, such as poison."""
    text = index.text if isinstance(index, Literal) else ""
    return 0 if text == "zeroinitializer" else int(text) if text.isdigit() else None


@dataclass
class _Writer:
    """Writes one kernel.

    Attributes:
        whole: the vectors that are put together again.
        parts: the elements of the vectors that were taken apart, by name.
        out: the instructions of the block.
    """

    whole: set[str]
    parts: dict[str, Sequence[Value]] = field(default_factory=dict)
    out: list[Instruction] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def block(self, block: Block) -> Block:
        """Write a block."""
        self.out = []
        for inst in block.instructions:
            if not _is_taken_apart(inst):
                self.out.append(inst)
            elif inst.opcode == "load":
                self._load(inst)
            elif inst.opcode == "extractelement":
                self._extract(inst)
            else:
                self._take_apart(inst)
        return Block(label=block.label, instructions=self.out)

    def _define(self, inst: Instruction) -> Value:
        name = f"%s.{next(self._numbers)}"
        self.out.append(replace(inst, result=name))
        return Local(name)

    def _elements(self, operand: Typed, location: int | None) -> Sequence[Value]:
        kind, value = operand.type, operand.value
        assert isinstance(kind, VectorType)
        if isinstance(value, Aggregate):
            return [element.value for element in value.elements]
        if isinstance(value, Splat):
            return [value.element.value] * kind.count
        if isinstance(value, Literal):
            # zeroinitializer and poison are words for elements, too.
            return [value] * kind.count
        if isinstance(value, Local) and value.name in self.parts:
            return self.parts[value.name]
        return [self._define(_extraction(operand, kind.element, place, location)) for place in range(kind.count)]

    def _load(self, inst: Instruction) -> None:
        if inst.result in self.whole:
            self.out.append(inst)
            return
        assert inst.result is not None
        assert isinstance(inst.type, VectorType)
        kind, (pointer,) = inst.type.element, inst.operands
        loaded = []
        for offset in range(0, inst.type.size, kind.size):
            step = (pointer, Typed(_INDEX, Literal(str(offset))))
            address = replace(inst, opcode="getelementptr", type=pointer.type, source=IntType(8), operands=step)
            at = Typed(pointer.type, self._define(replace(address, alignment=None)))
            alignment = inst.alignment and gcd(inst.alignment, offset)
            loaded.append(self._define(replace(inst, type=kind, operands=(at,), alignment=alignment)))
        self.parts[inst.result] = loaded

    def _extract(self, inst: Instruction) -> None:
        vector = inst.operands[0]
        if isinstance(vector.value, Local) and vector.value.name not in self.parts:
            self.out.append(inst)
            return
        place = _place(inst.operands[1].value)
        assert place is not None
        value = Typed(inst.type, self._elements(vector, inst.location)[place])
        choice = (Typed(IntType(1), Literal("true")), value, Typed(inst.type, Literal("poison")))
        self.out.append(replace(inst, opcode="select", operands=choice))

    def _take_apart(self, inst: Instruction) -> None:
        assert inst.result is not None
        if inst.opcode == "insertelement":
            values = list(self._elements(inst.operands[0], inst.location))
            place = _place(inst.operands[2].value)
            assert place is not None
            values[place] = inst.operands[1].value
        elif inst.opcode == "shufflevector":
            values = self._shuffle(inst)
        else:
            values = self._each(inst)
        self.parts[inst.result] = values
        if inst.result in self.whole:
            self._put_together(inst, values)

    def _shuffle(self, inst: Instruction) -> list[Value]:
        left, right, mask = (self._elements(operand, inst.location) for operand in inst.operands)
        pool = [*left, *right]
        places = map(_place, mask)
        return [Literal("poison") if place is None else pool[place] for place in places]

    def _each(self, inst: Instruction) -> list[Value]:
        assert isinstance(inst.type, VectorType)
        # One bit may choose between two vectors.
        columns = [
            [Typed(o.type.element, value) for value in self._elements(o, inst.location)]
            if isinstance(o.type, VectorType)
            else [o] * inst.type.count
            for o in inst.operands
        ]
        callee = inst.callee and re.sub(r"\.v\d+", ".", inst.callee)
        one = replace(inst, type=inst.type.element, callee=callee)
        return [self._define(replace(one, operands=row)) for row in zip(*columns, strict=True)]

    def _put_together(self, inst: Instruction, values: Sequence[Value]) -> None:
        kind = inst.type
        assert isinstance(kind, VectorType)
        so_far: Value = Literal("poison")
        for place, value in enumerate(values):
            operands = (Typed(kind, so_far), Typed(kind.element, value), Typed(_INDEX, Literal(str(place))))
            made = Instruction(opcode="insertelement", type=kind, operands=operands, location=inst.location)
            if place == kind.count - 1:
                self.out.append(replace(made, result=inst.result))
            else:
                so_far = self._define(made)


def _extraction(vector: Typed, kind: Type, place: int, location: int | None) -> Instruction:
    operands = (vector, Typed(_INDEX, Literal(str(place))))
    return Instruction(opcode="extractelement", type=kind, operands=operands, location=location)
