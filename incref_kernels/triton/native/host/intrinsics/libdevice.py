"""Functions of AMD's device library, answered by the host's C library: the same function, not the same bits."""

import re

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.elements import bits_of, overload
from incref_kernels.triton.native.host.intrinsics.approximate import reciprocal_root
from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["BITS", "HIGH", "QUESTIONS", "SAME", "find_device_function"]

_NAME = re.compile(r"__ocml_(\w+)_(f16|f32|f64)")
# Functions that C has under the same name.
SAME = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh", "erf",
    "erfc", "exp", "exp2", "exp10", "expm1", "fabs", "fdim", "floor", "fma", "fmax", "fmin", "fmod", "hypot", "ilogb",
    "j0", "j1", "ldexp", "lgamma", "log", "log10", "log1p", "log2", "logb", "nearbyint", "nextafter", "pow",
    "remainder", "rint", "round", "sin", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc", "y0", "y1",
}  # fmt: skip


# The upper half of a product: width, and how the operands are extended.
HIGH = {
    f"__ockl_mul_hi_{sign}{bits}": (bits, extend)
    for sign, extend in (("u", "zext"), ("i", "sext"))
    for bits in (32, 64)
}


def _high_half(bits: int, extend: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        left, right = (builder.value(f"{extend} {operand} to i{2 * bits}") for operand in inst.operands)
        product = builder.value(f"mul i{2 * bits} {left}, {right}")
        high = builder.value(f"lshr i{2 * bits} {product}, {bits}")
        return builder.value(f"trunc i{2 * bits} {high} to i{bits}")

    return lower


# Questions about one float, which C answers by macros: a comparison with Inf of its magnitude, or with NaN of itself.
_INFINITE = "0x7FF0000000000000"
QUESTIONS = {"isnan": "uno", "isinf": "oeq", "isfinite": "olt"}


def _question(predicate: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        (x,) = inst.operands
        magnitude = builder.value(f"call {x.type} @llvm.fabs.{overload(x.type)}({x})")
        answer = builder.value(f"fcmp {predicate} {x.type} {magnitude}, {_INFINITE}")
        return builder.value(f"zext i1 {answer} to {inst.type}")

    return lower


def _sign_bit(builder: LaneBuilder, inst: Instruction) -> str:
    (x,) = inst.operands
    bits = bits_of(x.type)
    raw = builder.value(f"bitcast {x} to {bits}")
    is_set = builder.value(f"icmp slt {bits} {raw}, 0")
    return builder.value(f"zext i1 {is_set} to {inst.type}")


def _counted(function: str, more: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        (x,) = inst.operands
        return builder.value(f"call {x.type} @llvm.{function}.{x.type}({x}{more})")

    return lower


BITS: dict[str, Simple] = {
    "__ockl_popcount_u32": _counted("ctpop", ""),
    "__ockl_clz_u32": _counted("ctlz", ", i1 false"),
}


def find_device_function(name: str) -> Simple:
    """Find what answers the device function `name`.

    Raises:
        UnsupportedError: if C has no such function.
    """
    if name in HIGH:
        return _high_half(*HIGH[name])
    if name in BITS:
        return BITS[name]
    match = _NAME.fullmatch(name)
    if match is not None and match[2] != "f16" and match[1] in QUESTIONS:
        return _question(QUESTIONS[match[1]])
    if match is not None and match[2] != "f16" and match[1] == "signbit":
        return _sign_bit
    if match is not None and match[1] == "rsqrt" and match[2] != "f16":
        return reciprocal_root
    if match is None or match[1] not in SAME or match[2] == "f16":
        raise UnsupportedError(f"the device function {name} has no equal on the host")
    function = match[1] + ("f" if match[2] == "f32" else "")

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        kinds = ", ".join(str(operand.type) for operand in inst.operands)
        builder.helper(f"@{function}", f"declare {inst.type} @{function}({kinds})")
        return builder.value(f"call {inst.type} @{function}({', '.join(map(str, inst.operands))})")

    return lower
