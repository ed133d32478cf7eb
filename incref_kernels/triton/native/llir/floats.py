"""Floating-point constants: every spelling of LLVM's, brought to bits and to the one that all versions read."""

import math
import re
import struct

from incref_kernels.triton.native.llir.types import FloatType

__all__ = ["canonical"]

_PACK = {"half": "<e", "float": "<f", "double": "<d"}


def canonical(text: str, kind: FloatType) -> str:
    """Spell the constant `text` of type `kind` by its bits.

    Half as `0xH....`, bfloat as the integer of its bits, float and double as the 16 digits of the equal double.

    Raises:
        ValueError: for a spelling that is none of LLVM's.
    """
    bits = _bits(text, kind)
    if kind.name == "half":
        return f"0xH{bits:04X}"
    if kind.name == "bfloat":
        return str(bits)
    return f"0x{_as_double(bits) if kind.name == 'float' else bits:016X}"


def _bits(text: str, kind: FloatType) -> int:
    if match := re.fullmatch(r"f0x([0-9A-Fa-f]+)|0x[HR]([0-9A-Fa-f]+)", text):
        return int(match[1] or match[2], 16)
    if match := re.fullmatch(r"0x([0-9A-Fa-f]+)", text):
        return _from_double(int(match[1], 16), kind)
    sign, body = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
    negative = (sign == "-") << (kind.bits - 1)
    mantissa = kind.mantissa_bits
    infinity = ((1 << (kind.bits - 1 - mantissa)) - 1) << mantissa
    if body == "inf":
        return negative | infinity
    if body in {"nan", "qnan"}:
        return negative | infinity | 1 << (mantissa - 1)
    if match := re.fullmatch(r"s?nan\(0x([0-9A-Fa-f]+)\)", body):
        return negative | infinity | int(match[1], 16)
    return _of_number(float(text), kind)


def _of_number(value: float, kind: FloatType) -> int:
    """The nearest value of `kind`: LLVM spells few digits, as many as tell a value from its neighbours."""
    if kind.name == "bfloat":
        bits = _of_number(value, FloatType("float"))
        return bits + 0x7FFF + (bits >> 16 & 1) >> 16
    return int.from_bytes(struct.pack(_PACK[kind.name], value), "little")


def _from_double(bits: int, kind: FloatType) -> int:
    """Narrow a constant written as a double: a value that `kind` holds exactly, or a NaN by its top bits."""
    if kind.name == "double":
        return bits
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    if not math.isnan(value):
        return _of_number(value, kind)
    mantissa = kind.mantissa_bits
    exponent = ((1 << (kind.bits - 1 - mantissa)) - 1) << mantissa
    return (bits >> 63) << (kind.bits - 1) | exponent | (bits >> (52 - mantissa)) & ((1 << mantissa) - 1)


def _as_double(bits: int) -> int:
    """The bits of the double that equals a float; a NaN keeps its payload."""
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    if math.isnan(value):
        return (bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
    return int.from_bytes(struct.pack("<d", value), "little")
