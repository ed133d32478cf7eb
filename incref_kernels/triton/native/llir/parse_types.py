"""Read a type."""

import re

from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.lexer import Kind
from incref_kernels.triton.native.llir.types import (
    FLOAT_BITS,
    ArrayType,
    FloatType,
    FunctionType,
    IntType,
    NamedType,
    PtrType,
    StructType,
    Type,
    VectorType,
    VoidType,
)

__all__ = ["parse_type"]

_NAMED = {"label", "token", "metadata"}


def parse_type(cursor: Cursor) -> Type:
    """Read a type, with the parameters of a function type if they follow."""
    kind = _first(cursor)
    while cursor.text == "(":
        kind = _function(cursor, kind)
    return kind


def _first(cursor: Cursor) -> Type:
    text = cursor.text
    if text == "<":
        return _vector(cursor)
    if text == "[":
        cursor.next()
        kind: Type = ArrayType(*_counted(cursor))
        cursor.expect("]")
        return kind
    if text == "{":
        return StructType(_elements(cursor))
    if cursor.token.kind is not Kind.WORD:
        cursor.fail("a type")
    return _word(cursor)


def _word(cursor: Cursor) -> Type:
    text = cursor.text
    if text == "ptr":
        cursor.next()
        return PtrType(_space(cursor))
    if text in FLOAT_BITS:
        return FloatType(cursor.next().text)
    if text == "void":
        cursor.next()
        return VoidType()
    if text in _NAMED:
        return NamedType(cursor.next().text)
    if match := re.fullmatch(r"i([0-9]+)", text):
        cursor.next()
        return IntType(int(match[1]))
    return cursor.fail("a type")


def _space(cursor: Cursor) -> int:
    if not cursor.accept("addrspace"):
        return 0
    cursor.expect("(")
    space = cursor.integer()
    cursor.expect(")")
    return space


def _counted(cursor: Cursor) -> tuple[int, Type]:
    count = cursor.integer()
    cursor.expect("x")
    return count, parse_type(cursor)


def _vector(cursor: Cursor) -> Type:
    cursor.expect("<")
    if cursor.text == "{":
        elements = _elements(cursor)
        cursor.expect(">")
        return StructType(elements, packed=True)
    kind = VectorType(*_counted(cursor))
    cursor.expect(">")
    return kind


def _elements(cursor: Cursor) -> tuple[Type, ...]:
    cursor.expect("{")
    found: list[Type] = []
    while not cursor.accept("}"):
        found.append(parse_type(cursor))
        cursor.accept(",")
    return tuple(found)


def _function(cursor: Cursor, returns: Type) -> FunctionType:
    cursor.expect("(")
    parameters: list[Type] = []
    variadic = False
    while not cursor.accept(")"):
        if cursor.accept("..."):
            variadic = True
        else:
            parameters.append(parse_type(cursor))
        cursor.accept(",")
    return FunctionType(returns, tuple(parameters), variadic)
