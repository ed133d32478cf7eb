"""Functions of device libraries, answered by the host's C library: the same function, not the same bits."""

import re

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.elements import bits_of, overload
from incref_kernels.triton.native.host.intrinsics.approximate import reciprocal_root
from incref_kernels.triton.native.host.intrinsics.cuda_device import OWN, amd_name, to_power
from incref_kernels.triton.native.host.intrinsics.high_half import high_half
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
        found = builder.value(f"call {x.type} @llvm.{function}.{x.type}({x}{more})")
        return found if str(x.type) == str(inst.type) else builder.value(f"trunc {x.type} {found} to {inst.type}")

    return lower


BITS: dict[str, Simple] = {
    "__ockl_popcount_u32": _counted("ctpop", ""),
    "__ockl_clz_u32": _counted("ctlz", ", i1 false"),
    "__ockl_popcount_u64": _counted("ctpop", ""),
    "__ockl_clz_u64": _counted("ctlz", ", i1 false"),
}


# What C has under no name of its own.
_OTHERS: dict[str, Simple] = {
    **{name: high_half(*what) for name, what in HIGH.items()},
    **BITS,
    **{
        f"__ocml_{name}_{kind}": lowering
        for kind, llvm in (("f32", "float"), ("f64", "double"))
        for name, lowering in (
            *((name, _question(predicate)) for name, predicate in QUESTIONS.items()),
            ("signbit", _sign_bit),
            ("rsqrt", reciprocal_root),
            ("pown", to_power(llvm)),
        )
    },
    **OWN,
}


def find_device_function(name: str) -> Simple:
    """Find what answers the device function `name`, AMD's or CUDA's.

    Raises:
        UnsupportedError: if C has no such function.
    """
    if (other := _OTHERS.get(name)) is not None:
        return other
    equal = amd_name(name, SAME)
    match = _NAME.fullmatch(equal)
    if match is None or match[2] == "f16" or (match[1] not in SAME and equal not in _OTHERS):
        raise UnsupportedError(f"the device function {name} has no equal on the host")
    return _OTHERS[equal] if equal in _OTHERS else _of_c(match[1] + ("f" if match[2] == "f32" else ""))


def _of_c(function: str) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        kinds = ", ".join(str(operand.type) for operand in inst.operands)
        builder.helper(f"@{function}", f"declare {inst.type} @{function}({kinds})")
        return builder.value(f"call {inst.type} @{function}({', '.join(map(str, inst.operands))})")

    return lower
