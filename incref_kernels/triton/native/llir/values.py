"""The operands of LLVM IR, and how the host's module spells them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from incref_kernels.triton.native.llir.types import Type

__all__ = ["Aggregate", "Expression", "Global", "Literal", "Local", "Splat", "Typed", "Value", "walk", "with_locals"]


@dataclass(frozen=True)
class Value:
    """Base of the operands."""


@dataclass(frozen=True)
class Local(Value):
    """The result of an instruction, or a parameter; `name` with its `%`."""

    name: str

    def __str__(self) -> str:
        """Spell it for the host."""
        return self.name


@dataclass(frozen=True)
class Global(Value):
    """A function or global variable; `name` with its `@`."""

    name: str

    def __str__(self) -> str:
        """Spell it for the host."""
        return self.name


@dataclass(frozen=True)
class Literal(Value):
    """A number, `true`, `null`, `poison`, ...; floats by their bits."""

    text: str

    def __str__(self) -> str:
        """Spell it for the host."""
        return self.text


@dataclass(frozen=True)
class Typed:
    """A value with its type."""

    type: Type
    value: Value

    def __str__(self) -> str:
        """Spell it for the host."""
        return f"{self.type} {self.value}"


@dataclass(frozen=True)
class Aggregate(Value):
    """A vector, array or structure written out; `brackets` is its pair of delimiters."""

    brackets: tuple[str, str]
    elements: tuple[Typed, ...]

    def __str__(self) -> str:
        """Spell it for the host."""
        left, right = self.brackets
        return left + ", ".join(map(str, self.elements)) + right


@dataclass(frozen=True)
class Splat(Value):
    """`count` times the same element; written out, since older LLVMs don't know the word `splat`."""

    count: int
    element: Typed

    def __str__(self) -> str:
        """Spell it for the host."""
        return "<" + ", ".join([str(self.element)] * self.count) + ">"


@dataclass(frozen=True)
class Expression(Value):
    """A constant expression.

    `source` is the type that a `getelementptr` walks; `target` is the type that a cast gives.
    """

    opcode: str
    operands: tuple[Typed, ...]
    source: Type | None = None
    target: Type | None = None

    def __str__(self) -> str:
        """Spell it for the host."""
        parts = [*([str(self.source)] if self.source else []), *map(str, self.operands)]
        return f"{self.opcode} ({', '.join(parts)}{f' to {self.target}' if self.target else ''})"


def walk(value: Value) -> list[Value]:
    """List `value` and all that it is made of."""
    found = [value]
    if isinstance(value, (Aggregate, Expression)):
        for part in value.elements if isinstance(value, Aggregate) else value.operands:
            found += walk(part.value)
    elif isinstance(value, Splat):
        found += walk(value.element.value)
    return found


def with_locals(value: Value, new: Callable[[str], Value]) -> Value:
    """Put `new(name)` in the place of each local value that `value` is made of."""

    def renewed(part: Typed) -> Typed:
        return replace(part, value=with_locals(part.value, new))

    if isinstance(value, Local):
        return new(value.name)
    if isinstance(value, Aggregate):
        return replace(value, elements=tuple(map(renewed, value.elements)))
    if isinstance(value, Splat):
        return replace(value, element=renewed(value.element))
    if isinstance(value, Expression):
        return replace(value, operands=tuple(map(renewed, value.operands)))
    return value
