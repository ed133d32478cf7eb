"""A module of LLVM IR: its globals, functions, blocks and instructions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from incref_kernels.triton.native.llir.types import FunctionType, Type
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["Block", "Declaration", "Function", "GlobalVariable", "Instruction", "Module", "Node"]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: its name.
        result: the `%name` it defines, or None.
        type: the type of the result; for `store` and terminators that of no value.
        operands: what it reads, in the order of the text; for `phi` the incoming values.
        labels: the blocks it names, in the order of the text, as `%name`.
        words: what else decides its meaning: the predicate of a comparison, the operation of an `atomicrmw`, orderings.
        source: the type that a `getelementptr` walks, or that an `alloca` makes room for.
        indices: the constants of `extractvalue` and `insertvalue`.
        alignment: bytes, or None.
        callee: the name of the function that is called, with its `@`.
        location: the number of the metadata node that says which line of the source it comes from.
    """

    opcode: str
    type: Type
    result: str | None = None
    operands: tuple[Typed, ...] = ()
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    source: Type | None = None
    indices: tuple[int, ...] = ()
    alignment: int | None = None
    callee: str | None = None
    location: int | None = None


@dataclass(kw_only=True)
class Block:
    """Instructions that run one after the other; `label` as `%name`."""

    label: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A function that is defined elsewhere."""

    name: str
    type: FunctionType


@dataclass(kw_only=True)
class Function:
    """A function with its body; `parameters` are the `%name`s."""

    name: str
    type: FunctionType
    parameters: tuple[str, ...]
    is_kernel: bool
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GlobalVariable:
    """A global variable; `initial` is None where it is defined elsewhere."""

    name: str
    type: Type
    space: int
    initial: Typed | None
    alignment: int | None
    is_constant: bool


@dataclass(frozen=True, kw_only=True)
class Node:
    """A metadata node: its kind (`DILocation`, ...) and its fields as text."""

    kind: str
    fields: Mapping[str, str]


@dataclass(kw_only=True)
class Module:
    """What a file of LLVM IR holds."""

    globals: dict[str, GlobalVariable] = field(default_factory=dict)
    declarations: dict[str, Declaration] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)
