"""Rewrite a kernel's LLVM IR for the host."""

import re
from dataclasses import dataclass, replace

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.floats16 import lower_bfloat
from incref_kernels.triton.native.host.intrinsics.table import base_name, find_lowering, is_host_intrinsic, meets
from incref_kernels.triton.native.host.lanes import DONE, LaneBuilder, Site
from incref_kernels.triton.native.host.render import render
from incref_kernels.triton.native.host.uniform import wave_value
from incref_kernels.triton.native.llir.locations import source_line
from incref_kernels.triton.native.llir.model import Block, Function, Instruction, Module
from incref_kernels.triton.native.llir.types import IntType, PtrType, Type
from incref_kernels.triton.native.llir.values import Aggregate, Expression, Global, Literal, Splat, Typed, Value, host_name, walk

__all__ = ["HostLane", "retarget"]

_SHARED = 3


@dataclass(frozen=True, kw_only=True)
class HostLane:
    """The lane function of a kernel.

    Attributes:
        text: its definition, and those of what it needs.
        parameters: the types of the kernel's parameters.
        meets: whether it is a coroutine.
        sites: the numbered places (see `host.lanes`).
        slot_bytes: size of one buffer of a wave's slots.
    """

    text: str
    parameters: tuple[Type, ...]
    meets: bool
    sites: tuple[Site, ...]
    slot_bytes: int


def retarget(module: Module, *, arch: str, fused: bool, coro_end: str) -> HostLane:
    """Write the function of one lane of the module's kernel.

    Args:
        module: the kernel's module, as Triton's AMD backend lowers it for waves of 64 lanes.
        arch: the GPU that it was lowered for.
        fused: whether `a * b + c` may be rounded once.
        coro_end: the type that the host's LLVM gives `llvm.coro.end`.

    Raises:
        UnsupportedError: for whatever has no known meaning; with the line of the source.
    """
    kernel = next((function for function in module.functions.values() if function.is_kernel), None)
    if kernel is None or len(module.functions) != 1:
        names = ", ".join(module.functions)
        raise UnsupportedError(f"a module must hold one function, the kernel; got {names or 'none'}")
    writer = _Writer(module, kernel, arch=arch, fused=fused)
    return writer.write(coro_end)


class _Writer:
    """Writes one kernel."""

    def __init__(self, module: Module, kernel: Function, *, arch: str, fused: bool) -> None:
        self.module, self.kernel, self.arch, self.fused = module, kernel, arch, fused
        self.definitions = {
            inst.result: inst for block in kernel.blocks for inst in block.instructions if inst.result is not None
        }
        self.builder = LaneBuilder(meets=any(map(self._meets, self.definitions.values())) or self._has_barrier())
        # Where a phi goes, and its block: its labels are known when all blocks are written.
        self.phis: list[tuple[int, Instruction]] = []
        self.ends: dict[str, str] = {}
        self.addresses: dict[Value, str] = {}

    def write(self, coro_end: str) -> HostLane:
        builder = self.builder
        for block in self.kernel.blocks:
            self._block(block)
        for index, phi in self.phis:
            pairs = (f"[ {v.value}, %{self.ends[label]} ]" for v, label in zip(phi.operands, phi.labels, strict=True))
            assert phi.result is not None
            builder.lines[index] = f"  {host_name(phi.result)} = phi {phi.type} {', '.join(pairs)}"
        text = "\n".join([*builder.helpers.values(), *self._globals(), *self._declarations(), self._function(coro_end)])
        return HostLane(
            text=text,
            parameters=self.kernel.type.parameters,
            meets=builder.meets,
            sites=tuple(builder.sites),
            slot_bytes=builder.slot_bytes,
        )

    def _meets(self, inst: Instruction) -> bool:
        return inst.callee is not None and meets(inst.callee[1:]) and not self._is_wave_value(inst)

    def _has_barrier(self) -> bool:
        return any(
            inst.callee is not None and not inst.result and meets(inst.callee[1:])
            for block in self.kernel.blocks
            for inst in block.instructions
        )

    def _is_wave_value(self, inst: Instruction) -> bool:
        return (
            inst.callee is not None
            and base_name(inst.callee[1:]) == "llvm.amdgcn.readfirstlane"
            and wave_value(None, inst.operands[0].value, self.definitions)
        )

    def _block(self, block: Block) -> None:
        self.builder.start(host_name(block.label)[1:])
        for inst in block.instructions:
            self.builder.line = source_line(self.module, inst.location)
            try:
                self._instruction(inst)
            except UnsupportedError as error:
                raise UnsupportedError(f"{error}, at {self.builder.line}") from None
        self.ends[block.label] = self.builder.label

    def _instruction(self, inst: Instruction) -> None:
        inst = replace(inst, operands=tuple(map(self._operand, inst.operands)))
        builder = self.builder
        if inst.opcode == "phi":
            self.phis.append((len(builder.lines), inst))
            builder.lines.append("")
        elif inst.opcode == "ret":
            self._return(inst)
        elif inst.opcode == "call":
            self._call(inst)
        elif inst.opcode in {"ptrtoint", "inttoptr"} and self._is_shared(inst):
            self._shared_address(inst)
        elif not lower_bfloat(builder, inst):
            builder.emit(render(inst))

    def _return(self, inst: Instruction) -> None:
        if inst.operands:
            raise UnsupportedError("a kernel returns no value")
        if self.builder.meets:
            self.builder.emit(f"store i32 {DONE}, ptr %point")
            self.builder.emit("br label %suspended")
        else:
            self.builder.emit("ret void")

    def _call(self, inst: Instruction) -> None:
        assert inst.callee is not None
        name = inst.callee[1:]
        if self._is_wave_value(inst):
            found: str | None = wave_value(self.builder, inst.operands[0].value, self.definitions)
        elif is_host_intrinsic(name):
            self.builder.emit(render(inst))
            return
        elif name.startswith("llvm."):
            found = find_lowering(name, arch=self.arch, fused=self.fused)(self.builder, inst)
        else:
            raise UnsupportedError(f"the function {name} is not known on the host")
        if inst.result:
            self.builder.emit(
                f"{host_name(inst.result)} = select i1 true, {inst.type} {found}, {inst.type} poison"
            )

    def _is_shared(self, inst: Instruction) -> bool:
        kinds = (inst.operands[0].type, inst.type)
        return any(isinstance(kind, PtrType) and kind.space == _SHARED for kind in kinds)

    def _shared_address(self, inst: Instruction) -> None:
        """Shared memory starts at address 0 on the GPU, and anywhere here."""
        assert inst.result is not None
        result, operand = host_name(inst.result), inst.operands[0]
        if inst.opcode == "inttoptr":
            self.builder.emit(f"{result} = getelementptr i8, ptr %lds, {operand}")
            return
        here = self.builder.value(f"ptrtoint {operand} to i64")
        start = self.builder.value("ptrtoint ptr %lds to i64")
        distance = self.builder.value(f"sub i64 {here}, {start}")
        assert isinstance(inst.type, IntType)
        self.builder.emit(
            f"{result} = trunc i64 {distance} to {inst.type}" if inst.type.bits < 64 else f"{result} = add i64 {distance}, 0"
        )

    def _operand(self, operand: Typed) -> Typed:
        return replace(operand, value=self._value(operand.type, operand.value))

    def _value(self, kind: Type, value: Value) -> Value:
        if isinstance(kind, PtrType) and kind.space == _SHARED and isinstance(value, Literal) and value.text == "null":
            raise UnsupportedError("a null pointer to shared memory has no equal on the host")
        if isinstance(value, (Aggregate, Splat)) and any(self._is_external(part) for part in walk(value)):
            raise UnsupportedError("addresses of shared memory inside a constant vector are not supported")
        if self._is_external(value) or (isinstance(value, Expression) and any(map(self._is_external, walk(value)))):
            return Literal(self._address(value))
        if isinstance(value, Expression) and self._crosses_spaces(value):
            return Literal(self._address(value))
        return value

    def _is_external(self, value: Value) -> bool:
        return isinstance(value, Global) and value.name in self.module.globals and (
            self.module.globals[value.name].initial is None or self.module.globals[value.name].space == _SHARED
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
            text = self.builder.in_entry(f"getelementptr {value.source}, ptr {self._address(base.value)}, {listed}")
        elif isinstance(value, Expression) and value.opcode == "inttoptr":
            text = self.builder.in_entry(f"getelementptr i8, ptr %lds, {value.operands[0]}")
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

    def _declarations(self) -> list[str]:
        """Declare every intrinsic that the text calls, by its call."""
        text = "\n".join([*self.builder.helpers.values(), *self.builder.lines])
        found = {}
        for match in re.finditer(r"call (.+?) (@llvm\.[a-z0-9.]+)\((.*)\)$", text, flags=re.MULTILINE):
            found[match[2]] = f"declare {match[1]} {match[2]}({', '.join(_types(match[3]))})"
        return [line for name, line in found.items() if not name.startswith("@llvm.coro.")]

    def _function(self, coro_end: str) -> str:
        kernel = self.kernel
        kinds = zip(kernel.type.parameters, kernel.parameters, strict=True)
        parameters = ", ".join(f"{kind} {host_name(name)}" for kind, name in kinds)
        head = f"{parameters}{', ' if parameters else ''}ptr %ctx, ptr %lds, i32 %tid, i32 %lane, i32 %pid_x, i32 %pid_y, i32 %pid_z"
        first = host_name(kernel.blocks[0].label)
        body = [*self.builder.entry, f"  br label {first}", *self.builder.lines]
        template = _COROUTINE if self.builder.meets else _PLAIN
        end = f"{'%ended = ' if coro_end != 'void' else ''}call {coro_end} @llvm.coro.end(ptr %self, i1 false, token none)"
        return template.format(head=head, body="\n".join(body), coro_end=end)


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
        return argument.split()[0]
    depth = 0
    for index, character in enumerate(argument):
        depth += {"<": 1, "[": 1, "{": 1, ">": -1, "]": -1, "}": -1}.get(character, 0)
        if depth == 0:
            return argument[: index + 1]
    raise AssertionError(argument)


_PLAIN = """
define internal void @lane({head}) alwaysinline {{
entry:
{body}
}}
"""
_COROUTINE = """
define internal ptr @lane({head}, ptr %frame, ptr %size_out, ptr %point) presplitcoroutine noinline {{
entry:
  %self_id = call token @llvm.coro.id(i32 64, ptr null, ptr null, ptr null)
  %frame_size = call i64 @llvm.coro.size.i64()
  %asks_size = icmp eq ptr %frame, null
  br i1 %asks_size, label %tell_size, label %begin
tell_size:
  store i64 %frame_size, ptr %size_out
  ret ptr null
begin:
  %self = call ptr @llvm.coro.begin(token %self_id, ptr %frame)
{body}
suspended:
  {coro_end}
  ret ptr %self
}}
"""
