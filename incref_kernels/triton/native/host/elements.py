"""Types, constants and names of intrinsics for a value or, element by element, for a vector."""

from incref_kernels.triton.native.llir.types import FloatType, IntType, Type, VectorType

__all__ = ["BIT", "DOUBLE", "FLOAT", "bits_of", "element_of", "float_of", "is_bfloat", "like", "overload", "repeated"]

FLOAT, DOUBLE, BIT = FloatType("float"), FloatType("double"), IntType(1)


def element_of(kind: Type) -> Type:
    """The type of a vector's elements; of what is no vector, itself."""
    return kind.element if isinstance(kind, VectorType) else kind


def like(kind: Type, element: Type) -> Type:
    """`kind` with another type of element."""
    return VectorType(kind.count, element) if isinstance(kind, VectorType) else element


def float_of(kind: Type) -> FloatType:
    """The type of floats that `kind` has for elements."""
    element = element_of(kind)
    assert isinstance(element, FloatType)
    return element


def is_bfloat(kind: Type) -> bool:
    """Whether `kind` is bfloat16, or a vector of it."""
    return element_of(kind) == FloatType("bfloat")


def bits_of(kind: Type) -> Type:
    """The integer type of a float's bits."""
    return like(kind, IntType(float_of(kind).bits))


def repeated(kind: Type, number: int) -> str:
    """Spell a constant of an integer type, the same in every element."""
    return f"<{', '.join([f'{kind.element} {number}'] * kind.count)}>" if isinstance(kind, VectorType) else str(number)


def overload(kind: Type) -> str:
    """How an intrinsic's name spells the type that it is overloaded for."""
    if isinstance(kind, VectorType):
        return f"v{kind.count}{overload(kind.element)}"
    if isinstance(kind, FloatType):
        return {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}[kind.name]
    return str(kind)
