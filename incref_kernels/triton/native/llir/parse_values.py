"""Read an operand."""

from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.floats import canonical
from incref_kernels.triton.native.llir.lexer import Kind
from incref_kernels.triton.native.llir.parse_types import parse_type
from incref_kernels.triton.native.llir.types import FloatType, Type, VectorType
from incref_kernels.triton.native.llir.values import (
    Aggregate,
    Expression,
    Global,
    Literal,
    Local,
    Splat,
    Typed,
    Value,
)

__all__ = ["FLAGS", "VALUE_WORDS", "parse_typed", "parse_value"]

_WORDS = {"true", "false", "null", "none", "undef", "poison", "zeroinitializer"}
_CASTS = {"addrspacecast", "bitcast", "inttoptr", "ptrtoint", "trunc", "zext", "sext"}
# The words that start a value.
VALUE_WORDS = {*_WORDS, *_CASTS, "splat", "getelementptr", "add", "sub", "xor"}
# Promises and permissions that LLVM may use and need not: to drop one never changes what a program may compute.
FLAGS = {
    "nuw", "nsw", "nusw", "exact", "disjoint", "nneg", "samesign", "inbounds",
    "fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc",
}  # fmt: skip


def parse_typed(cursor: Cursor) -> Typed:
    """Read a type and a value of it."""
    kind = parse_type(cursor)
    return Typed(kind, parse_value(cursor, kind))


def parse_value(cursor: Cursor, kind: Type) -> Value:
    """Read a value of type `kind`."""
    token = cursor.token
    if token.kind is Kind.LOCAL:
        return Local(cursor.next().text)
    if token.kind is Kind.GLOBAL:
        return Global(cursor.next().text)
    if token.kind is Kind.NUMBER:
        text = cursor.next().text
        return Literal(canonical(text, kind) if isinstance(kind, FloatType) else text)
    if token.kind is Kind.STRING or token.text in _WORDS:
        return Literal(cursor.next().text)
    if token.text in {"<", "[", "{"}:
        return _aggregate(cursor)
    return _compound(cursor, kind)


def _compound(cursor: Cursor, kind: Type) -> Value:
    word = cursor.next().text
    if word == "splat" and isinstance(kind, VectorType):
        cursor.expect("(")
        element = parse_typed(cursor)
        cursor.expect(")")
        return Splat(kind.count, element)
    if word == "getelementptr":
        return _address(cursor)
    if word in _CASTS:
        return _cast(cursor, word)
    if word in {"add", "sub", "xor"}:
        _flags(cursor)
        cursor.expect("(")
        return Expression(word, _operands(cursor))
    return cursor.fail(f"a value after {word!r}")


def _flags(cursor: Cursor) -> None:
    while cursor.accept(*FLAGS, "inrange"):
        if cursor.text == "(" and cursor.after(-1) == "inrange":
            cursor.skip_group()


def _address(cursor: Cursor) -> Expression:
    _flags(cursor)
    cursor.expect("(")
    source = parse_type(cursor)
    cursor.expect(",")
    return Expression("getelementptr", _operands(cursor), source=source)


def _cast(cursor: Cursor, opcode: str) -> Expression:
    _flags(cursor)
    cursor.expect("(")
    operand = parse_typed(cursor)
    cursor.expect("to")
    target = parse_type(cursor)
    cursor.expect(")")
    return Expression(opcode, (operand,), target=target)


def _operands(cursor: Cursor) -> tuple[Typed, ...]:
    found = [parse_typed(cursor)]
    while cursor.accept(","):
        found.append(parse_typed(cursor))
    cursor.expect(")")
    return tuple(found)


def _aggregate(cursor: Cursor) -> Aggregate:
    opening = cursor.next().text
    if opening == "<" and cursor.accept("{"):
        opening = "<{"
    closing = {"<": ">", "[": "]", "{": "}", "<{": "}>"}[opening]
    found: list[Typed] = []
    while cursor.text != closing[0]:
        found.append(parse_typed(cursor))
        cursor.accept(",")
    for text in closing:
        cursor.expect(text)
    return Aggregate((opening, closing), tuple(found))
