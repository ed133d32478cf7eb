"""Read an instruction."""

from collections.abc import Callable
from dataclasses import replace

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.lexer import Kind
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.parse_types import parse_type
from incref_kernels.triton.native.llir.parse_values import FLAGS, VALUE_WORDS, parse_typed, parse_value
from incref_kernels.triton.native.llir.types import (
    ArrayType,
    FunctionType,
    IntType,
    PtrType,
    StructType,
    Type,
    VectorType,
    VoidType,
)
from incref_kernels.triton.native.llir.values import Global, Typed

__all__ = ["parse_instruction", "skip_attributes"]

BINARY = {
    "add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "shl", "lshr", "ashr", "and", "or", "xor",
    "fadd", "fsub", "fmul", "fdiv", "frem",
}  # fmt: skip
CASTS = {
    "trunc", "zext", "sext", "fptrunc", "fpext", "fptoui", "fptosi", "uitofp", "sitofp",
    "ptrtoint", "ptrtoaddr", "inttoptr", "bitcast", "addrspacecast",
}  # fmt: skip
_VOID = VoidType()
# Attributes that decide how an argument is passed: to drop one would change the program.
_BINDING = {"byval", "sret", "inalloca", "preallocated", "swiftself", "swifterror", "nest", "byref"}

# Words that may follow attributes: a value, the next entity of the module, or what is not understood.
_NO_ATTRIBUTE = {
    *VALUE_WORDS, "declare", "define", "attributes", "source_filename", "target", "module",
    "personality", "comdat", "gc", "prefix", "prologue",
}  # fmt: skip


def parse_instruction(cursor: Cursor) -> Instruction:
    """Read one instruction with its metadata.

    Raises:
        UnsupportedError: for an instruction that Triton's kernels are not known to contain.
    """
    result = None
    if cursor.token.kind is Kind.LOCAL:
        result = cursor.next().text
        cursor.expect("=")
    at = cursor.token
    if cursor.text in {"tail", "musttail", "notail"}:
        cursor.next()
    opcode = cursor.next().text
    if (parser := _PARSERS.get(opcode)) is None:
        raise UnsupportedError(
            f"the instruction {opcode!r} of the kernel's LLVM IR is not known (at character {at.at})"
        )
    instruction = parser(cursor, opcode)
    return replace(instruction, result=result, location=_metadata(cursor))


def skip_attributes(cursor: Cursor) -> None:
    """Skip the attributes of a parameter, a result or a function.

    Raises:
        UnsupportedError: for an attribute that decides how an argument is passed.
    """
    while True:
        token = cursor.token
        if token.kind is Kind.GROUP:
            cursor.next()
        elif token.kind is Kind.STRING:
            cursor.next()
            if cursor.accept("="):
                cursor.next()
        elif token.text == "addrspace" or (token.kind is Kind.WORD and _is_attribute(cursor)):
            if token.text in _BINDING:
                raise UnsupportedError(f"an argument with the attribute {token.text!r} is not understood")
            _skip_attribute(cursor)
        else:
            return


def _is_attribute(cursor: Cursor) -> bool:
    return not _starts_type(cursor.text) and cursor.text not in _NO_ATTRIBUTE


def _starts_type(word: str) -> bool:
    return word in {"ptr", "void", "half", "bfloat", "float", "double", "label", "token", "metadata"} or (
        word[0] == "i" and word[1:].isdigit()
    )


def _skip_attribute(cursor: Cursor) -> None:
    name = cursor.next().text
    if cursor.text == "(":
        cursor.skip_group()
    elif name == "align" and cursor.token.kind is Kind.NUMBER:
        cursor.next()


def _metadata(cursor: Cursor) -> int | None:
    location = None
    while cursor.text == "," and cursor.after(1).startswith("!"):
        cursor.next()
        name = cursor.next().text
        node = cursor.next().text
        if node == "!":
            cursor.skip_group()
        elif name == "!dbg":
            location = int(node[1:])
    return location


def _flags(cursor: Cursor) -> None:
    while cursor.accept(*FLAGS):
        pass


def _binary(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    left = parse_typed(cursor)
    cursor.expect(",")
    right = Typed(left.type, parse_value(cursor, left.type))
    return Instruction(opcode=opcode, type=left.type, operands=(left, right))


def _unary(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    operand = parse_typed(cursor)
    return Instruction(opcode=opcode, type=operand.type, operands=(operand,))


def _compare(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    predicate = cursor.take(Kind.WORD)
    compared = _binary(cursor, opcode)
    kind = compared.type
    bit: Type = VectorType(kind.count, IntType(1)) if isinstance(kind, VectorType) else IntType(1)
    return replace(compared, type=bit, words=(predicate,))


def _cast(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    operand = parse_typed(cursor)
    cursor.expect("to")
    return Instruction(opcode=opcode, type=parse_type(cursor), operands=(operand,))


def _list(cursor: Cursor) -> list[Typed]:
    found = [parse_typed(cursor)]
    while cursor.text == "," and not cursor.after(1).startswith("!") and cursor.after(1) != "align":
        cursor.next()
        found.append(parse_typed(cursor))
    return found


def _select(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    operands = _list(cursor)
    return Instruction(opcode=opcode, type=operands[1].type, operands=tuple(operands))


def _phi(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    kind = parse_type(cursor)
    values: list[Typed] = []
    labels: list[str] = []
    while not values or (cursor.text == "," and cursor.after(1) == "["):
        cursor.accept(",")
        cursor.expect("[")
        values.append(Typed(kind, parse_value(cursor, kind)))
        cursor.expect(",")
        labels.append(cursor.take(Kind.LOCAL))
        cursor.expect("]")
    return Instruction(opcode=opcode, type=kind, operands=tuple(values), labels=tuple(labels))


def _address(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    source = parse_type(cursor)
    cursor.expect(",")
    operands = _list(cursor)
    kind = operands[0].type
    if any(isinstance(operand.type, VectorType) for operand in operands):
        raise UnsupportedError("an address computation on vectors is not understood")
    return Instruction(opcode=opcode, type=kind, operands=tuple(operands), source=source)


def _alignment(cursor: Cursor) -> int | None:
    if cursor.text == "," and cursor.after(1) == "align":
        cursor.next()
        cursor.next()
        return cursor.integer()
    return None


def _ordering(cursor: Cursor) -> tuple[str, ...]:
    if cursor.accept("syncscope"):
        cursor.skip_group()
    words = []
    while cursor.text in {"unordered", "monotonic", "acquire", "release", "acq_rel", "seq_cst"}:
        words.append(cursor.next().text)
    return tuple(words)


def _load(cursor: Cursor, opcode: str) -> Instruction:
    atomic = cursor.accept("atomic")
    cursor.accept("volatile")
    kind = parse_type(cursor)
    cursor.expect(",")
    pointer = parse_typed(cursor)
    words = _ordering(cursor) if atomic else ()
    return Instruction(opcode=opcode, type=kind, operands=(pointer,), words=words, alignment=_alignment(cursor))


def _store(cursor: Cursor, opcode: str) -> Instruction:
    atomic = cursor.accept("atomic")
    cursor.accept("volatile")
    value = parse_typed(cursor)
    cursor.expect(",")
    pointer = parse_typed(cursor)
    words = _ordering(cursor) if atomic else ()
    return Instruction(opcode=opcode, type=_VOID, operands=(value, pointer), words=words, alignment=_alignment(cursor))


def _exchange(cursor: Cursor, opcode: str) -> Instruction:
    while cursor.accept("weak", "volatile"):
        pass
    operands = _list(cursor)
    words = _ordering(cursor)
    kind = StructType((operands[1].type, IntType(1)))
    return Instruction(opcode=opcode, type=kind, operands=tuple(operands), words=words, alignment=_alignment(cursor))


def _update(cursor: Cursor, opcode: str) -> Instruction:
    cursor.accept("volatile")
    operation = cursor.take(Kind.WORD)
    operands = _list(cursor)
    words = (operation, *_ordering(cursor))
    return Instruction(
        opcode=opcode, type=operands[1].type, operands=tuple(operands), words=words, alignment=_alignment(cursor)
    )


def _fence(cursor: Cursor, opcode: str) -> Instruction:
    """Read a fence; one for the wave alone keeps the word, since there it makes the lanes wait."""
    is_wave = cursor.text == "syncscope" and cursor.after(2) == '"wavefront"'
    words = _ordering(cursor)
    return Instruction(opcode=opcode, type=_VOID, words=("wavefront", *words) if is_wave else words)


def _extract_element(cursor: Cursor, opcode: str) -> Instruction:
    operands = _list(cursor)
    vector = operands[0].type
    assert isinstance(vector, VectorType)
    return Instruction(opcode=opcode, type=vector.element, operands=tuple(operands))


def _insert_element(cursor: Cursor, opcode: str) -> Instruction:
    operands = _list(cursor)
    return Instruction(opcode=opcode, type=operands[0].type, operands=tuple(operands))


def _shuffle(cursor: Cursor, opcode: str) -> Instruction:
    operands = _list(cursor)
    vector, mask = operands[0].type, operands[2].type
    assert isinstance(vector, VectorType)
    assert isinstance(mask, VectorType)
    return Instruction(opcode=opcode, type=VectorType(mask.count, vector.element), operands=tuple(operands))


def _indices(cursor: Cursor) -> tuple[int, ...]:
    found = []
    while cursor.text == "," and not cursor.after(1).startswith("!"):
        cursor.next()
        found.append(cursor.integer())
    return tuple(found)


def _extract_value(cursor: Cursor, opcode: str) -> Instruction:
    operand = parse_typed(cursor)
    indices = _indices(cursor)
    kind = operand.type
    for index in indices:
        assert isinstance(kind, (StructType, ArrayType))
        kind = kind.elements[index] if isinstance(kind, StructType) else kind.element
    return Instruction(opcode=opcode, type=kind, operands=(operand,), indices=indices)


def _insert_value(cursor: Cursor, opcode: str) -> Instruction:
    whole = parse_typed(cursor)
    cursor.expect(",")
    part = parse_typed(cursor)
    return Instruction(opcode=opcode, type=whole.type, operands=(whole, part), indices=_indices(cursor))


def _branch(cursor: Cursor, opcode: str) -> Instruction:
    operands: list[Typed] = []
    labels: list[str] = []
    while True:
        if cursor.accept("label"):
            labels.append(cursor.take(Kind.LOCAL))
        else:
            operands.append(parse_typed(cursor))
        if cursor.text != "," or cursor.after(1).startswith("!"):
            return Instruction(opcode=opcode, type=_VOID, operands=tuple(operands), labels=tuple(labels))
        cursor.next()


def _switch(cursor: Cursor, opcode: str) -> Instruction:
    operands = [parse_typed(cursor)]
    cursor.expect(",")
    cursor.expect("label")
    labels = [cursor.take(Kind.LOCAL)]
    cursor.expect("[")
    while not cursor.accept("]"):
        operands.append(parse_typed(cursor))
        cursor.expect(",")
        cursor.expect("label")
        labels.append(cursor.take(Kind.LOCAL))
    return Instruction(opcode=opcode, type=_VOID, operands=tuple(operands), labels=tuple(labels))


def _return(cursor: Cursor, opcode: str) -> Instruction:
    if cursor.accept("void"):
        return Instruction(opcode=opcode, type=_VOID)
    return Instruction(opcode=opcode, type=_VOID, operands=(parse_typed(cursor),))


def _unreachable(_cursor: Cursor, opcode: str) -> Instruction:
    return Instruction(opcode=opcode, type=_VOID)


def _alloca(cursor: Cursor, opcode: str) -> Instruction:
    source = parse_type(cursor)
    operands: tuple[Typed, ...] = ()
    space = 0
    alignment = None
    while cursor.text == "," and not cursor.after(1).startswith("!"):
        cursor.next()
        if cursor.accept("align"):
            alignment = cursor.integer()
        elif cursor.accept("addrspace"):
            cursor.expect("(")
            space = cursor.integer()
            cursor.expect(")")
        else:
            operands = (parse_typed(cursor),)
    return Instruction(opcode=opcode, type=PtrType(space), operands=operands, source=source, alignment=alignment)


def _call(cursor: Cursor, opcode: str) -> Instruction:
    _flags(cursor)
    skip_attributes(cursor)
    returns = parse_type(cursor)
    kind = returns.returns if isinstance(returns, FunctionType) else returns
    if cursor.text == "asm":
        return _assembly(cursor, kind)
    if cursor.token.kind is not Kind.GLOBAL:
        cursor.fail("the name of a function (calls of pointers are not understood)")
    callee = Global(cursor.next().text)
    return Instruction(opcode=opcode, type=kind, operands=_arguments(cursor), callee=callee.name)


def _arguments(cursor: Cursor) -> tuple[Typed, ...]:
    cursor.expect("(")
    operands: list[Typed] = []
    while not cursor.accept(")"):
        argument = parse_type(cursor)
        skip_attributes(cursor)
        operands.append(Typed(argument, parse_value(cursor, argument)))
        cursor.accept(",")
    # The attributes of a call are a group; a word would be the next instruction.
    while cursor.token.kind is Kind.GROUP:
        cursor.next()
    return tuple(operands)


def _assembly(cursor: Cursor, kind: Type) -> Instruction:
    """Inline assembly, as an instruction of its own; its words are the text and the constraints."""
    cursor.expect("asm")
    while cursor.accept("sideeffect", "alignstack", "inteldialect", "unwind"):
        pass
    text = cursor.take(Kind.STRING)
    cursor.expect(",")
    words = (text.strip('"'), cursor.take(Kind.STRING).strip('"'))
    return Instruction(opcode="asm", type=kind, operands=_arguments(cursor), words=words)


_PARSERS: dict[str, Callable[[Cursor, str], Instruction]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(CASTS, _cast),
    "fneg": _unary,
    "freeze": _unary,
    "icmp": _compare,
    "fcmp": _compare,
    "select": _select,
    "phi": _phi,
    "getelementptr": _address,
    "load": _load,
    "store": _store,
    "cmpxchg": _exchange,
    "atomicrmw": _update,
    "fence": _fence,
    "extractelement": _extract_element,
    "insertelement": _insert_element,
    "shufflevector": _shuffle,
    "extractvalue": _extract_value,
    "insertvalue": _insert_value,
    "br": _branch,
    "switch": _switch,
    "ret": _return,
    "unreachable": _unreachable,
    "alloca": _alloca,
    "call": _call,
}
