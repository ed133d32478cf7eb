"""Read a module."""

import re

from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.lexer import Kind
from incref_kernels.triton.native.llir.model import (
    Block,
    Declaration,
    Function,
    GlobalVariable,
    Module,
    Node,
)
from incref_kernels.triton.native.llir.parse_instructions import parse_instruction, skip_attributes
from incref_kernels.triton.native.llir.parse_types import parse_type
from incref_kernels.triton.native.llir.parse_values import parse_value
from incref_kernels.triton.native.llir.types import FunctionType, Type
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["PREFIX", "parse_module"]

# Before the names of a kernel's values and blocks.
PREFIX = "v."

# A node whose fields are worth keeping: the ones that lead from an instruction to its line.
_NODE = re.compile(
    r"^!([0-9]+) = (?:distinct )?!(DILocation|DIFile|DILexicalBlockFile|DILexicalBlock|DISubprogram)\((.*)\)$"
)
_FIELD = re.compile(r"(\w+): (\"[^\"]*\"|![0-9]+|[^,]+)")


def parse_module(text: str) -> Module:
    """Read the LLVM IR of a kernel.

    Attributes of functions, promises on instructions and metadata other than source lines are dropped: they allow
    optimizations and decide nothing.

    Raises:
        UnsupportedError: for whatever is not understood, with its line.
    """
    code, nodes = _without_metadata(text)
    module = Module(nodes=nodes)
    cursor = Cursor(code, prefix=PREFIX)
    while cursor.token.kind is not Kind.END:
        _entity(cursor, module)
    return module


def _without_metadata(text: str) -> tuple[str, dict[int, Node]]:
    kept, nodes = [], {}
    for line in text.splitlines():
        if not line.startswith("!"):
            kept.append(line)
        elif match := _NODE.match(line):
            nodes[int(match[1])] = Node(kind=match[2], fields=dict(_FIELD.findall(match[3])))
    return "\n".join(kept), nodes


def _entity(cursor: Cursor, module: Module) -> None:
    word = cursor.next()
    if word.text in {"source_filename", "target"}:
        cursor.accept("datalayout", "triple")
        cursor.expect("=")
        cursor.take(Kind.STRING)
    elif word.text == "attributes":
        cursor.take(Kind.GROUP)
        cursor.expect("=")
        cursor.skip_group()
    elif word.text == "declare":
        declared = _signature(cursor)
        module.declarations[declared.name] = Declaration(name=declared.name, type=declared.type)
    elif word.text == "define":
        function = _signature(cursor)
        _body(cursor, function)
        module.functions[function.name] = function
    elif word.kind is Kind.GLOBAL:
        module.globals[word.text] = _global(cursor, word.text)
    elif word.text == "$":
        cursor.fail("no comdat")
    else:
        cursor.fail(f"a declaration, not {word.text!r}")


def _global(cursor: Cursor, name: str) -> GlobalVariable:
    cursor.expect("=")
    space, external = 0, False
    while cursor.text not in {"global", "constant"}:
        word = cursor.next().text
        external |= word == "external"
        if word == "addrspace":
            cursor.expect("(")
            space = cursor.integer()
            cursor.expect(")")
    constant = cursor.next().text == "constant"
    kind = parse_type(cursor)
    initial = None if external else Typed(kind, parse_value(cursor, kind))
    alignment = None
    while cursor.accept(","):
        if cursor.next().text == "align":
            alignment = cursor.integer()
    skip_attributes(cursor)
    return GlobalVariable(name=name, type=kind, space=space, initial=initial, alignment=alignment, is_constant=constant)


def _signature(cursor: Cursor) -> Function:
    _skip_metadata(cursor)
    start = cursor.token.at
    skip_attributes(cursor)
    is_kernel = "amdgpu_kernel" in cursor.between(start).split()
    returns = parse_type(cursor)
    name = cursor.take(Kind.GLOBAL)
    cursor.expect("(")
    types: list[Type] = []
    names: list[str] = []
    variadic = False
    while not cursor.accept(")"):
        if cursor.accept("..."):
            variadic = True
            continue
        types.append(parse_type(cursor))
        skip_attributes(cursor)
        names.append(cursor.next().text if cursor.token.kind is Kind.LOCAL else f"%{PREFIX}{len(names)}")
        cursor.accept(",")
    skip_attributes(cursor)
    return Function(
        name=name, type=FunctionType(returns, tuple(types), variadic), parameters=tuple(names), is_kernel=is_kernel
    )


def _skip_metadata(cursor: Cursor) -> None:
    while cursor.token.kind is Kind.METADATA:
        cursor.next()
        cursor.next()


def _body(cursor: Cursor, function: Function) -> None:
    _skip_metadata(cursor)
    cursor.expect("{")
    # An unnamed entry block has the number after the unnamed parameters.
    entry = sum(name.removeprefix(f"%{PREFIX}").isdigit() for name in function.parameters)
    while not cursor.accept("}"):
        if cursor.token.kind is Kind.LABEL:
            function.blocks.append(Block(label="%" + cursor.next().text[:-1]))
        elif not function.blocks:
            function.blocks.append(Block(label=f"%{PREFIX}{entry}"))
        else:
            function.blocks[-1].instructions.append(parse_instruction(cursor))
