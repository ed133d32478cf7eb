"""Functions of CUDA's device library, which kernels call by `triton.language.extra`: what they say, on the host.

What C has too is C's; what is rounded, converted, counted or moved is exact. Functions named `fast_` approximate others
on a GPU, and are these here. Source: CUDA's libdevice user's guide.
"""

import re
from collections.abc import Callable, Collection

from incref_kernels.triton.native.host.intrinsics.approximate import reciprocal_root
from incref_kernels.triton.native.host.intrinsics.directed import DIRECTED
from incref_kernels.triton.native.host.intrinsics.high_half import high_half
from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.intrinsics.steps import steps
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["OWN", "amd_name", "to_power"]

_FLOATS = {"f": "float", "d": "double"}
_OVERLOADS = {"float": "f32", "double": "f64"}
# How a value becomes an integer: C's names, and llvm's.
_ROUNDINGS = {"rn": "roundeven", "rd": "floor", "ru": "ceil", "rz": "trunc"}

_QUESTION = re.compile(r"__nv_(?:is)?(nan|inf|finite|signbit)([fd])")
# What approximates which function of C.
_FAST = {
    f"__nv_fast_{name}f": name for name in ("sin", "cos", "tan", "exp", "exp10", "log", "log2", "log10", "pow", "tanh")
}


def _to_integers() -> dict[str, Simple]:
    """Conversions of floats to integers: rounded, then the nearest one that there is; NaN becomes 0."""
    found: dict[str, Simple] = {}
    for source, kind in (("float", "float"), ("double", "double")):
        for target, bits, sign in (("int", 32, "s"), ("uint", 32, "u"), ("ll", 64, "s"), ("ull", 64, "u")):
            for rounding, function in _ROUNDINGS.items():
                found[f"__nv_{source}2{target}_{rounding}"] = _converted(kind, function, bits, sign)
        suffix = "f" if kind == "float" else ""
        found[f"__nv_llrint{suffix}"] = _converted(kind, "roundeven", 64, "s")
        found[f"__nv_llround{suffix}"] = _converted(kind, "round", 64, "s")
    return found


def _converted(kind: str, function: str, bits: int, sign: str) -> Simple:
    overload = _OVERLOADS[kind]
    return steps(
        f"call {kind} @llvm.{function}.{overload}({{a}})",
        f"call i{bits} @llvm.fpto{sign}i.sat.i{bits}.{overload}({kind} {{0}})",
    )


def _nearest() -> dict[str, Simple]:
    """Operations that are rounded to nearest, as all are here."""
    found: dict[str, Simple] = {}
    for letter, kind in _FLOATS.items():
        fma = "fmaf" if kind == "float" else "fma"
        found |= {
            f"__nv_{letter}{name}_rn": steps(f"f{name} {{T}} {{A}}, {{B}}") for name in ("add", "sub", "mul", "div")
        }
        found |= {
            f"__nv_{letter}rcp_rn": steps("fdiv {T} 1.0, {A}"),
            f"__nv_{letter}sqrt_rn": steps(f"call {kind} @llvm.sqrt.{_OVERLOADS[kind]}({{a}})"),
            f"__nv_{fma}_rn": steps(f"call {kind} @llvm.fma.{_OVERLOADS[kind]}({{a}}, {{b}}, {{c}})"),
        }
        for name in ("int", "ll"):
            found[f"__nv_{name}2{kind}_rn"] = steps("sitofp {a} to {T}")
            found[f"__nv_u{name}2{kind}_rn"] = steps("uitofp {a} to {T}")
    found["__nv_double2float_rn"] = steps("fptrunc {a} to {T}")
    return found


def _counted(name: str, function: str, more: str = "") -> dict[str, Simple]:
    return {
        f"__nv_{name}": steps(f"call i32 @llvm.{function}.i32({{a}}{more})"),
        f"__nv_{name}ll": steps(f"call i64 @llvm.{function}.i64({{a}}{more})", "trunc i64 {0} to i32"),
    }


def _first_set(bits: int) -> Simple:
    """The number of the lowest bit that is set, from 1; 0 if none is."""
    return steps(
        f"call i{bits} @llvm.cttz.i{bits}({{a}}, i1 false)",
        f"add i{bits} {{0}}, 1",
        "icmp eq {a}, 0",
        f"select i1 {{2}}, i{bits} 0, i{bits} {{1}}",
        *(["trunc i64 {3} to i32"] if bits == 64 else []),
    )


def _mean(extend: str, more: int) -> Simple:
    return steps(
        f"{extend} {{a}} to i64",
        f"{extend} {{b}} to i64",
        "add i64 {0}, {1}",
        f"add i64 {{2}}, {more}",
        "lshr i64 {3}, 1",
        "trunc i64 {4} to i32",
    )


def _distance(sign: str) -> Simple:
    """|a - b| + c, modulo 2**32."""
    return steps(
        f"call i32 @llvm.{sign}max.i32({{a}}, {{b}})",
        f"call i32 @llvm.{sign}min.i32({{a}}, {{b}})",
        "sub i32 {0}, {1}",
        "add i32 {2}, {C}",
    )


def _bytes(builder: LaneBuilder, inst: Instruction) -> str:
    """Four of the eight bytes of two words: the lowest three bits of each nibble of the third say which."""
    low, high = (builder.value(f"zext {operand} to i64") for operand in inst.operands[:2])
    moved = builder.value(f"shl i64 {high}, 32")
    words = builder.value(f"or i64 {low}, {moved}")
    result = "0"
    for place in range(4):
        nibble = builder.value(f"lshr {inst.operands[2]}, {4 * place}")
        number = builder.value(f"and i32 {nibble}, 7")
        shift = builder.value(f"mul i32 {number}, 8")
        wide = builder.value(f"zext i32 {shift} to i64")
        there = builder.value(f"lshr i64 {words}, {wide}")
        word = builder.value(f"trunc i64 {there} to i32")
        byte = builder.value(f"and i32 {word}, 255")
        at = builder.value(f"shl i32 {byte}, {8 * place}")
        result = builder.value(f"or i32 {result}, {at}")
    return result


def to_power(kind: str) -> Simple:
    """Raise a `kind` to an integer power, by C's `pow` in double, which holds every such integer."""

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        x, power = inst.operands
        builder.helper("@pow", "declare double @pow(double, double)")
        wide = builder.value(f"fpext {x} to double") if kind == "float" else str(x.value)
        exponent = builder.value(f"sitofp {power} to double")
        found = builder.value(f"call double @pow(double {wide}, double {exponent})")
        return builder.value(f"fptrunc double {found} to float") if kind == "float" else found

    return lower


def _with_integer(function: str) -> Callable[[str], Simple]:
    """A function of C of an integer and a float, in either order."""

    def of_kind(kind: str) -> Simple:
        name = function + ("f" if kind == "float" else "")

        def lower(builder: LaneBuilder, inst: Instruction) -> str:
            kinds = ", ".join(str(operand.type) for operand in inst.operands)
            builder.helper(f"@{name}", f"declare {kind} @{name}({kinds})")
            return builder.value(f"call {kind} @{name}({', '.join(map(str, inst.operands))})")

        return lower

    return of_kind


_MOVED = {
    **dict.fromkeys(
        ("float_as_int", "float_as_uint", "int_as_float", "uint_as_float", "double_as_longlong", "longlong_as_double"),
        steps("bitcast {a} to {T}"),
    ),
    "double2loint": steps("bitcast {a} to i64", "trunc i64 {0} to i32"),
    "double2hiint": steps("bitcast {a} to i64", "lshr i64 {0}, 32", "trunc i64 {1} to i32"),
    "hiloint2double": steps(
        "zext {a} to i64", "shl i64 {0}, 32", "zext {b} to i64", "or i64 {1}, {2}", "bitcast i64 {3} to double"
    ),
    "byte_perm": _bytes,
    "brev": steps("call i32 @llvm.bitreverse.i32({a})"),
    "brevll": steps("call i64 @llvm.bitreverse.i64({a})"),
}
_INTEGER = {
    "abs": steps("call i32 @llvm.abs.i32({a}, i1 false)"),
    "llabs": steps("call i64 @llvm.abs.i64({a}, i1 false)"),
    "mulhi": high_half(32, "sext"),
    "umulhi": high_half(32, "zext"),
    "mul64hi": high_half(64, "sext"),
    "umul64hi": high_half(64, "zext"),
    "mul24": steps("shl {a}, 8", "ashr i32 {0}, 8", "shl {b}, 8", "ashr i32 {2}, 8", "mul i32 {1}, {3}"),
    "umul24": steps("and {a}, 16777215", "and {b}, 16777215", "mul i32 {0}, {1}"),
    "hadd": _mean("sext", 0),
    "uhadd": _mean("zext", 0),
    "rhadd": _mean("sext", 1),
    "urhadd": _mean("zext", 1),
    "sad": _distance("s"),
    "usad": _distance("u"),
    "ffs": _first_set(32),
    "ffsll": _first_set(64),
}
_OTHERS = {
    "fast_fdividef": steps("fdiv {T} {A}, {B}"),
    # NaN becomes 0.
    "saturatef": steps(
        "fcmp ogt {a}, 0.0",
        "select i1 {0}, {a}, float 0.0",
        "fcmp olt float {1}, 1.0",
        "select i1 {2}, float {1}, float 1.0",
    ),
    "rsqrtf": reciprocal_root,
    "rsqrt": reciprocal_root,
    "powif": to_power("float"),
    "powi": to_power("double"),
    **{
        f"{name}{suffix}": _with_integer(name)(kind)
        for name in ("scalbn", "jn", "yn")
        for suffix, kind in (("f", "float"), ("", "double"))
    },
}
OWN: dict[str, Simple] = {
    **{f"__nv_{name}": lowering for name, lowering in {**_MOVED, **_INTEGER, **_OTHERS}.items()},
    **_counted("clz", "ctlz", ", i1 false"),
    **_counted("popc", "ctpop"),
    **_to_integers(),
    **_nearest(),
    **DIRECTED,
}
"""What C has not under the same name, by the library's name."""


def amd_name(name: str, functions: Collection[str]) -> str:
    """Find what AMD's device library calls the same function, of which C has `functions`; else `name`.

    >>> amd_name("__nv_erff", {"erf"}), amd_name("__nv_erf", {"erf"}), amd_name("__nv_isnand", {"erf"})
    ('__ocml_erf_f32', '__ocml_erf_f64', '__ocml_isnan_f64')
    """
    if (question := _QUESTION.fullmatch(name)) is not None:
        asked = question[1] if question[1] == "signbit" else f"is{question[1]}"
        return f"__ocml_{asked}_{'f32' if question[2] == 'f' else 'f64'}"
    own = _FAST.get(name, name.removeprefix("__nv_"))
    if name in _FAST or own in functions:
        return f"__ocml_{own}_{'f32' if name in _FAST else 'f64'}"
    return f"__ocml_{own[:-1]}_f32" if own[:-1] in functions and own.endswith("f") else name
