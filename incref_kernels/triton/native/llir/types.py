"""The types of LLVM IR.

`str(type)` is the type as the host's module spells it: every address space of the GPU is the one of the host there.
"""

from dataclasses import dataclass
from functools import cached_property

__all__ = [
    "ArrayType",
    "FloatType",
    "FunctionType",
    "IntType",
    "NamedType",
    "PtrType",
    "StructType",
    "Type",
    "VectorType",
    "VoidType",
]

FLOAT_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_MANTISSA_BITS = {"half": 10, "bfloat": 7, "float": 23, "double": 52}


@dataclass(frozen=True)
class Type:
    """Base of the types."""

    @property
    def size(self) -> int:
        """Bytes that a value occupies in memory, vectors of bits rounded up."""
        raise TypeError(f"a value of type {self} has no size")


@dataclass(frozen=True)
class VoidType(Type):
    """The type of no value."""

    def __str__(self) -> str:
        """Spell it for the host."""
        return "void"


@dataclass(frozen=True)
class IntType(Type):
    """An integer of `bits` bits."""

    bits: int

    def __str__(self) -> str:
        """Spell it for the host."""
        return f"i{self.bits}"

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return (self.bits + 7) // 8


@dataclass(frozen=True)
class FloatType(Type):
    """A floating-point type by its name in LLVM.

    The host gets the bits of a bfloat16 as an integer: not every processor and LLVM has the type.
    """

    name: str

    def __str__(self) -> str:
        """Spell it for the host."""
        return "i16" if self.name == "bfloat" else self.name

    @property
    def bits(self) -> int:
        """Width in bits."""
        return FLOAT_BITS[self.name]

    @property
    def mantissa_bits(self) -> int:
        """Width of the mantissa, without the bit that is not stored."""
        return _MANTISSA_BITS[self.name]

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.bits // 8


@dataclass(frozen=True)
class PtrType(Type):
    """A pointer; `space` is the GPU's address space (1 global, 3 shared, 4 constant, 5 private)."""

    space: int = 0

    def __str__(self) -> str:
        """Spell it for the host."""
        return "ptr"

    @property
    def size(self) -> int:
        """Bytes in memory, on the host."""
        return 8


@dataclass(frozen=True)
class VectorType(Type):
    """A fixed vector."""

    count: int
    element: Type

    def __str__(self) -> str:
        """Spell it for the host."""
        return self.text

    @cached_property
    def text(self) -> str:
        """The spelling, made once."""
        return f"<{self.count} x {self.element}>"

    @property
    def size(self) -> int:
        """Bytes in memory; elements narrower than a byte are packed."""
        if isinstance(self.element, IntType):
            return (self.element.bits * self.count + 7) // 8
        return self.element.size * self.count


@dataclass(frozen=True)
class ArrayType(Type):
    """An array."""

    count: int
    element: Type

    def __str__(self) -> str:
        """Spell it for the host."""
        return f"[{self.count} x {self.element}]"

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.count * self.element.size


@dataclass(frozen=True)
class StructType(Type):
    """A structure without a name."""

    elements: tuple[Type, ...]
    packed: bool = False

    def __str__(self) -> str:
        """Spell it for the host."""
        inside = "{ " + ", ".join(map(str, self.elements)) + " }" if self.elements else "{}"
        return f"<{inside}>" if self.packed else inside

    @property
    def size(self) -> int:
        """Bytes in memory, each element at a multiple of the next power of two of its size, which no host exceeds."""
        end, widest = 0, 1
        for element in self.elements:
            step = 1 if self.packed else 1 << max(element.size - 1, 0).bit_length()
            end, widest = -(-end // step) * step + element.size, max(widest, step)
        return -(-end // widest) * widest


@dataclass(frozen=True)
class NamedType(Type):
    """`label`, `token` and `metadata`: types of things that are no values."""

    name: str

    def __str__(self) -> str:
        """Spell it for the host."""
        return self.name


@dataclass(frozen=True)
class FunctionType(Type):
    """The type of a function."""

    returns: Type
    parameters: tuple[Type, ...]
    variadic: bool = False

    def __str__(self) -> str:
        """Spell it for the host."""
        parts = [*map(str, self.parameters), *(["..."] if self.variadic else [])]
        return f"{self.returns} ({', '.join(parts)})"
