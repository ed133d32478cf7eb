"""Rewrite a kernel's LLVM IR for the host."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.checks import Check, checked, note_writer
from incref_kernels.triton.native.host.divergence import may_diverge
from incref_kernels.triton.native.host.failure import FAILED, Failure
from incref_kernels.triton.native.host.floats16 import lower_bfloat, rounded, widened_call
from incref_kernels.triton.native.host.integers import lower_integer
from incref_kernels.triton.native.host.intrinsics.lowering import Exchange, Lowering, WaveOperation, constant
from incref_kernels.triton.native.host.intrinsics.table import base_name, find_lowering, is_host_intrinsic, meets
from incref_kernels.triton.native.host.liveness import defined
from incref_kernels.triton.native.host.nans import watch_nan
from incref_kernels.triton.native.host.narrow import lower_narrow
from incref_kernels.triton.native.host.races import number_stretches, watch_shared
from incref_kernels.triton.native.host.regions import Lane, wave_functions
from incref_kernels.triton.native.host.schedule import gathered
from incref_kernels.triton.native.host.segments import LINE, Copy, LaneBuilder, Mask, Site, WaveCall, stride
from incref_kernels.triton.native.host.uniform import wave_value
from incref_kernels.triton.native.host.unwritten import watch_unwritten
from incref_kernels.triton.native.llir.inline import inlined
from incref_kernels.triton.native.llir.locations import source_line
from incref_kernels.triton.native.llir.model import Block, Function, Instruction, Module
from incref_kernels.triton.native.llir.scalars import scalarized
from incref_kernels.triton.native.llir.types import IntType, PtrType, Type
from incref_kernels.triton.native.llir.values import (
    Aggregate,
    Expression,
    Global,
    Literal,
    Local,
    Splat,
    Typed,
    Value,
    walk,
)

__all__ = ["HostKernel", "retarget"]

_SHARED, _PRIVATE = 3, 5
# What Triton 3.9 puts the printing of an assertion's message into.
_ASSERT = "@__triton_assert_fail"


@dataclass(frozen=True, kw_only=True)
class HostKernel:
    """A kernel for the host.

    Attributes:
        text: the functions of a wave, and what they need.
        parameters: the types of the kernel's parameters.
        declared: the parameters as the functions declare them.
        sites: the numbered places, for messages.
        frame_bytes: what a wave remembers while it waits.
        meets: whether lanes ever wait for each other.
    """

    text: str
    parameters: tuple[Type, ...]
    declared: tuple[str, ...]
    sites: tuple[Site, ...]
    frame_bytes: int
    meets: bool


def retarget(module: Module, *, arch: str, fused: bool, checks: frozenset[Check] = frozenset()) -> HostKernel:
    """Write the functions that run a wave of the module's kernel.

    Args:
        module: the kernel's module, as Triton's AMD backend lowers it for waves of 64 lanes.
        arch: the GPU that it was lowered for.
        fused: whether `a * b + c` may be rounded once.
        checks: what is checked while the kernel runs.

    Raises:
        UnsupportedError: for whatever has no known meaning; with the line of the source.
    """
    kernel = next((function for function in module.functions.values() if function.is_kernel), None)
    if kernel is None:
        raise UnsupportedError("the module holds no kernel")
    called = {name: function for name, function in module.functions.items() if name != _ASSERT}
    return _Writer(module, inlined(kernel, called), arch=arch, fused=fused, checks=checks).write()


class _Writer:
    """Writes one kernel."""

    def __init__(self, module: Module, kernel: Function, *, arch: str, fused: bool, checks: frozenset[Check]) -> None:
        self.module, self.arch, self.fused, self.checks = module, arch, fused, checks
        self.definitions = {
            inst.result: inst for block in kernel.blocks for inst in block.instructions if inst.result is not None
        }
        self.at_start = {inst.result for inst in kernel.blocks[0].instructions}
        # Where lanes that meet compute on vectors, these go through memory, and matrix instructions take them whole.
        meets_nowhere = not any(self._stops(inst) for block in kernel.blocks for inst in block.instructions)
        self.kernel = scalarized(kernel) if meets_nowhere else kernel
        self.builder = LaneBuilder()
        # The segment that each block ends in: a phi names the block, its value comes from there.
        self.ends: dict[str, str] = {}
        self.addresses: dict[Value, str] = {}
        # Memory of the lanes' own: the address of the first lane's, and how far they are apart.
        self.own: dict[Value, tuple[str, int]] = {}
        self.message = ""

    def write(self) -> HostKernel:
        builder, kernel = self.builder, self.kernel
        if may_diverge(kernel, self._stops, self._is_pure_call):
            builder.mask = Mask(states=builder.reserve(256), active=builder.reserve(64), first=builder.reserve(4))
        if Check.SHARED in self.checks:
            number_stretches(builder)
        for block in kernel.blocks:
            self._block(block)
        self._mend_phis()
        declared_parameters = tuple(
            f"{kind} {name}" for kind, name in zip(kernel.type.parameters, kernel.parameters, strict=True)
        )
        regions = wave_functions(Lane(builder=builder, parameters=declared_parameters, types=self._types()))
        text = "\n".join([*builder.helpers.values(), regions.text])
        return HostKernel(
            text="\n".join([*self._globals(), *_declarations(text), text]),
            parameters=kernel.type.parameters,
            declared=declared_parameters,
            sites=tuple(builder.sites),
            frame_bytes=regions.frame_bytes,
            meets=any(segment.ends for segment in builder.segments),
        )

    def _types(self) -> dict[str, Type]:
        found = {}
        for segment in self.builder.segments:
            found.update({name: inst.type for inst in segment.instructions if (name := defined(inst)) is not None})
            if segment.ends is not None:
                found.update(dict(segment.ends.results))
        return found

    def _mend_phis(self) -> None:
        for segment in self.builder.segments:
            for index, inst in enumerate(segment.instructions):
                if inst.opcode == "phi":
                    labels = tuple(f"%{self.ends[label]}" for label in inst.labels)
                    segment.instructions[index] = replace(inst, labels=labels)

    def _lowering(self, inst: Instruction) -> Lowering | None:
        """What defines a call; None where the host's LLVM does, or it isn't a call."""
        if inst.opcode != "call" or inst.callee is None:
            return None
        name = inst.callee[1:]
        if is_host_intrinsic(name) or self._is_wave_value(inst):
            return None
        return find_lowering(name, arch=self.arch, fused=self.fused)

    def _is_exchange(self, inst: Instruction) -> bool:
        return (
            inst.callee is not None
            and inst.result is not None
            and meets(inst.callee[1:])
            and not self._is_wave_value(inst)
        )

    def _stops(self, inst: Instruction) -> bool:
        if inst.opcode == "fence" and "wavefront" in inst.words:
            return True
        return inst.callee is not None and meets(inst.callee[1:]) and not self._is_wave_value(inst)

    def _is_pure_call(self, inst: Instruction) -> bool:
        if inst.callee is None or inst.result is None:
            return False
        return is_host_intrinsic(inst.callee[1:]) or self._is_wave_value(inst)

    def _is_wave_value(self, inst: Instruction) -> bool:
        # In the first block all lanes are there, so the first one is lane 0.
        return (
            inst.callee is not None
            and inst.result in self.at_start
            and base_name(inst.callee[1:]) == "llvm.amdgcn.readfirstlane"
            and bool(wave_value(None, inst.operands[0].value, self.definitions))
        )

    def _block(self, block: Block) -> None:
        self.builder.start(block.label[1:])
        instructions = gathered(block.instructions, self._is_exchange, self._is_pure_call)
        index = 0
        while index < len(instructions):
            inst = instructions[index]
            self.builder.line = source_line(self.module, inst.location)
            count = self._group(instructions[index:])
            try:
                if count:
                    self._meeting(instructions[index : index + count])
                else:
                    self._instruction(inst)
            except UnsupportedError as error:
                raise UnsupportedError(f"{error}, at {self.builder.line}") from None
            index += max(count, 1)
        self.ends[block.label] = self.builder.segments[-1].label

    def _group(self, instructions: Sequence[Instruction]) -> int:
        """How many exchanges stand at the beginning that don't read each other's results."""
        made: set[str] = set()
        for count, inst in enumerate(instructions):
            read = {part.name for operand in inst.operands for part in walk(operand.value) if isinstance(part, Local)}
            if not self._is_exchange(inst) or read & made:
                return count
            assert inst.result is not None
            made.add(inst.result)
        return len(instructions)

    def _meeting(self, instructions: Sequence[Instruction]) -> None:
        """Write exchanges for which the lanes meet once."""
        builder = self.builder
        group = [replace(inst, operands=tuple(map(self._operand, inst.operands))) for inst in instructions]
        copies: list[Copy] = []
        calls: list[WaveCall] = []
        results: list[tuple[str, Type]] = []
        readers: list[tuple[Exchange, Instruction, list[int]]] = []
        for inst in group:
            lowering = self._lowering(inst)
            if isinstance(lowering, Exchange):
                if Check.SHARED in self.checks:
                    watch_shared(builder, inst)
                places = []
                for value in lowering.show(builder, inst):
                    name = builder.named(value)
                    places.append(builder.reserve(64 * stride(value.type)))
                    copies.append(Copy(shown=name, kind=value.type, target=places[-1], of_all=lowering.of_all))
                readers.append((lowering, inst, places))
            elif isinstance(lowering, WaveOperation):
                assert inst.result is not None
                result = inst.result
                names = [builder.named(inst.operands[index]) for index in lowering.shown]
                calls += [
                    WaveCall(function=f, operands=ops) for f, ops in lowering.prepare(builder, inst, names, result)
                ]
                results.append((result, inst.type))
        what = ", ".join(
            sorted({base_name(inst.callee[1:]).removeprefix("llvm.amdgcn.") for inst in group if inst.callee})
        )
        builder.meet(what, copies=tuple(copies), calls=tuple(dict.fromkeys(calls)), results=tuple(results))
        for lowering, inst, places in readers:
            assert inst.result is not None
            builder.define(
                inst.result, f"select i1 true, {inst.type} {lowering.read(builder, inst, places)}, {inst.type} poison"
            )

    def _instruction(self, inst: Instruction) -> None:
        if inst.opcode == "phi" and any(operand.value in self.own for operand in inst.operands):
            raise UnsupportedError("a choice between places of a lane's own memory is not supported")
        inst = replace(inst, operands=tuple(map(self._operand, inst.operands)))
        self._write(inst)
        if Check.NAN in self.checks and not self._stops(inst):
            watch_nan(self.builder, inst)

    def _write(self, inst: Instruction) -> None:
        if inst.opcode == "call":
            self._note_message(inst.operands)
            self._call(inst)
        elif inst.opcode == "fence" and "wavefront" in inst.words:
            # The lanes of a wave go in step on a GPU: what they wrote before is there for the others after it.
            self.builder.meet("fence of the wave")
        elif inst.opcode == "asm":
            self._assembly(inst)
        elif inst.opcode in {"ptrtoint", "inttoptr"} and self._touches(inst, _SHARED):
            self._shared_address(inst)
        elif inst.opcode in {"ptrtoint", "inttoptr"} and self._touches(inst, _PRIVATE):
            raise UnsupportedError("the address of memory of a lane's own is no number on the host")
        elif inst.opcode == "ret" and inst.operands:
            raise UnsupportedError("a kernel returns no value")
        elif inst.opcode == "alloca":
            self._own_memory(inst)
        elif not any(lower(self.builder, inst) for lower in (lower_integer, lower_narrow, lower_bfloat)):
            self._access(inst)

    def _access(self, inst: Instruction) -> None:
        """Write an instruction as it is, with what is checked of it if it touches memory."""
        for check, watch in (
            (Check.SHARED, watch_shared),
            (Check.WRITERS, note_writer),
            (Check.UNWRITTEN, watch_unwritten),
        ):
            if check in self.checks:
                watch(self.builder, inst)
        self.builder.add(checked(self.builder, inst) if Check.BOUNDS in self.checks else inst)

    def _call(self, inst: Instruction) -> None:
        if inst.callee in {_ASSERT, "@llvm.trap"}:
            self._trap(inst)
            return
        if inst.callee == "@__ockl_printf_append_string_n" and constant(inst, 3):
            # Triton 3.6 writes an assertion's message in place; the lanes that fail then wait at their own barrier.
            self._trap(inst)
        result, kind = inst.result, inst.type
        wide = widened_call(self.builder, inst)
        if wide is not None:
            self._call(replace(wide, result=f"{result}.wide"))
            assert result is not None
            value = self.builder.typed(wide.type, f"{result}.wide")
            self.builder.define(result, f"select i1 true, {kind} {rounded(self.builder, value)}, {kind} poison")
            return
        if self._is_wave_value(inst):
            found: str | None = wave_value(self.builder, inst.operands[0].value, self.definitions)
        else:
            lowering = self._lowering(inst)
            if lowering is None:
                self.builder.add(inst)
                return
            assert not isinstance(lowering, (Exchange, WaveOperation))
            found = lowering(self.builder, inst)
        if inst.result:
            self.builder.define(inst.result, f"select i1 true, {inst.type} {found}, {inst.type} poison")

    def _assembly(self, inst: Instruction) -> None:
        if inst.words[0] != "s_trap 2":
            raise UnsupportedError(f"inline assembly {inst.words[0]!r} has no meaning on the host")
        self._trap(inst)

    def _note_message(self, operands: Sequence[Typed]) -> None:
        """Remember a text that is handed to a function: an assertion prints its own before it traps."""
        for operand in operands:
            variable = self.module.globals.get(str(operand.value))
            if variable is not None and variable.initial is not None and str(variable.initial.value).startswith('c"'):
                self.message = str(variable.initial.value)[2:-1].removesuffix("\\00").removesuffix("\\0A")

    def _trap(self, inst: Instruction) -> None:
        """Record a failed assertion; the launch fails when the program's lanes stop next."""
        if inst.callee == _ASSERT:
            for block in self.module.functions[_ASSERT].blocks:
                for inner in block.instructions:
                    self._note_message(inner.operands)
        builder = self.builder
        builder.helper("@failed", FAILED)
        builder.emit(
            f"call void @failed(ptr %ctx, i32 {Failure.ASSERTION:d}, i32 %tid, i32 {builder.site(self.message)})"
        )

    def _own_memory(self, inst: Instruction) -> None:
        """Memory of a lane's own lies in the wave's frame, lane after lane: it stays there while the lane waits."""
        assert inst.source is not None
        assert inst.result is not None
        alignment = inst.alignment or 1
        if inst.operands and str(inst.operands[0].value) != "1":
            raise UnsupportedError(f"an array of a lane's own of {inst.operands[0].value} elements is not supported")
        if inst.result not in self.at_start or alignment > LINE:
            raise UnsupportedError("memory of a lane's own made in a branch, or so far aligned, is not supported")
        size = -(-inst.source.size // alignment) * alignment
        start = self.builder.before_all(f"getelementptr i8, ptr %frame, i64 {self.builder.reserve(64 * size)}")
        self.own[Local(inst.result)] = (start, size)

    def _touches(self, inst: Instruction, space: int) -> bool:
        kinds = (inst.operands[0].type, inst.type)
        return any(isinstance(kind, PtrType) and kind.space == space for kind in kinds)

    def _shared_address(self, inst: Instruction) -> None:
        """Shared memory starts at address 0 on the GPU, and anywhere here."""
        assert inst.result is not None
        operand = inst.operands[0]
        if inst.opcode == "inttoptr":
            self.builder.define(inst.result, f"getelementptr i8, ptr %lds, {operand}")
            return
        here = self.builder.value(f"ptrtoint {operand} to i64")
        start = self.builder.value("ptrtoint ptr %lds to i64")
        distance = self.builder.value(f"sub i64 {here}, {start}")
        assert isinstance(inst.type, IntType)
        self.builder.define(
            inst.result, f"trunc i64 {distance} to {inst.type}" if inst.type.bits < 64 else f"add i64 {distance}, 0"
        )

    def _operand(self, operand: Typed) -> Typed:
        return replace(operand, value=self._value(operand.type, operand.value))

    def _value(self, kind: Type, value: Value) -> Value:
        if value in self.own:
            start, size = self.own[value]
            distance = self.builder.value(f"mul i32 %lane, {size}")
            return _pointer(self.builder.value(f"getelementptr i8, ptr {start}, i32 {distance}"))
        if isinstance(kind, PtrType) and kind.space == _SHARED and isinstance(value, Literal) and value.text == "null":
            raise UnsupportedError("a null pointer to shared memory has no equal on the host")
        if isinstance(value, (Aggregate, Splat)) and any(self._is_external(part) for part in walk(value)):
            raise UnsupportedError("addresses of shared memory inside a constant vector are not supported")
        if self._is_external(value) or (isinstance(value, Expression) and any(map(self._is_external, walk(value)))):
            return _pointer(self._address(value))
        if isinstance(value, Expression) and self._crosses_spaces(value):
            return _pointer(self._address(value))
        return value

    def _is_external(self, value: Value) -> bool:
        return (
            isinstance(value, Global)
            and value.name in self.module.globals
            and (self.module.globals[value.name].initial is None or self.module.globals[value.name].space == _SHARED)
        )

    def _crosses_spaces(self, value: Expression) -> bool:
        kinds = [value.target, *(operand.type for operand in value.operands)]
        return any(isinstance(kind, PtrType) and kind.space == _SHARED for kind in kinds)

    def _address(self, value: Value) -> str:
        """Compute a constant of the GPU's that is none on the host, in the first block."""
        if value in self.addresses:
            return self.addresses[value]
        if isinstance(value, Global):
            text = self._shared_start(value)
        elif isinstance(value, Expression) and value.opcode == "getelementptr":
            base, *indices = value.operands
            listed = ", ".join(map(str, indices))
            text = self.builder.before_all(f"getelementptr {value.source}, ptr {self._address(base.value)}, {listed}")
        elif isinstance(value, Expression) and value.opcode == "inttoptr":
            text = self.builder.before_all(f"getelementptr i8, ptr %lds, {value.operands[0]}")
        elif isinstance(value, Expression) and value.opcode in {"addrspacecast", "bitcast"}:
            text = self._address(value.operands[0].value)
        else:
            raise UnsupportedError(f"the constant {value} is not understood")
        self.addresses[value] = text
        return text

    def _shared_start(self, value: Global) -> str:
        if self.module.globals[value.name].space != _SHARED:
            raise UnsupportedError(f"the variable {value.name} is defined nowhere")
        if sum(variable.space == _SHARED for variable in self.module.globals.values()) > 1:
            raise UnsupportedError("more than one variable in shared memory is not supported")
        return "%lds"

    def _globals(self) -> list[str]:
        return [
            f"{item.name} = private {'constant' if item.is_constant else 'global'} {item.initial}"
            for item in self.module.globals.values()
            if item.initial is not None and item.space != _SHARED
        ]


def _pointer(name: str) -> Value:
    return Local(name)


def _declarations(text: str) -> list[str]:
    """Declare every intrinsic that `text` calls, by its call."""
    found = {}
    for match in re.finditer(r"call (.+?) (@llvm\.[a-z0-9.]+)\((.*)\)$", text, flags=re.MULTILINE):
        found[match[2]] = f"declare {match[1]} {match[2]}({', '.join(_types(match[3]))})"
    return list(found.values())


def _types(arguments: str) -> list[str]:
    """The types of a call's arguments, as they are written."""
    depth, parts = 0, [""]
    for character in arguments:
        depth += {"<": 1, "(": 1, "[": 1, "{": 1, ">": -1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [_leading_type(part.strip()) for part in parts if part.strip()]


def _leading_type(argument: str) -> str:
    if argument[0] not in "<[{":
        return argument.split(maxsplit=1)[0]
    depth = 0
    for index, character in enumerate(argument):
        depth += {"<": 1, "[": 1, "{": 1, ">": -1, "]": -1, "}": -1}.get(character, 0)
        if depth == 0:
            return argument[: index + 1]
    raise AssertionError(argument)
