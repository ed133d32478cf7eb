"""Functions of the device library: the bits of the host's C library, and how far these are from the exact result."""

import ctypes
import ctypes.util
import math
import platform
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.triton_native.language.c_library import largest_error
from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.libdevice import BITS, HIGH, QUESTIONS, SAME, find_device_function

Run = Callable[..., Tensor]

KINDS = {"f32": ("float", torch.float32, ctypes.c_float), "f64": ("double", torch.float64, ctypes.c_double)}
# By the number of floats that a function takes.
UNARY = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2",
    "exp10", "expm1", "fabs", "floor", "j0", "j1", "lgamma", "log", "log10", "log1p", "log2", "logb", "nearbyint",
    "rint", "round", "sin", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc", "y0", "y1",
]  # fmt: skip
BINARY = ["atan2", "copysign", "fdim", "fmax", "fmin", "fmod", "hypot", "nextafter", "pow", "remainder"]
# Those with an integer: `ilogb` gives one, `ldexp` takes one.
OTHERS = ["fma", "ilogb", "ldexp"]


def test_every_function_is_here() -> None:
    assert sorted(SAME) == sorted([*UNARY, *BINARY, *OTHERS])


@cache
def c_function(name: str, kind: str, arity: int) -> Callable[..., float]:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    try:
        function = library[name + ("f" if kind == "f32" else "")]
    except AttributeError:
        pytest.skip(f"this C library has no {name}")
    function.restype, function.argtypes = KINDS[kind][2], [KINDS[kind][2]] * arity
    return function


def samples(kind: str, seed: int) -> Tensor:
    """256 numbers of every size, special ones, and some that most functions are defined for."""
    generator = torch.Generator().manual_seed(seed)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 2.5, -2.5, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38, 1e300]
    sizes = torch.ldexp(torch.randn(64, generator=generator), torch.randint(-130, 120, (64,), generator=generator))
    near = torch.randn(256 - 64 - len(special), generator=generator, dtype=torch.float64) * 3
    order = torch.randperm(256, generator=generator)
    return torch.cat([torch.tensor(special, dtype=torch.float64), sizes.double(), near])[order].to(KINDS[kind][1])


def called(run_lanes: Run, kind: str, names: Sequence[str], arguments: Sequence[Tensor]) -> Tensor:
    """Results of the functions, [function, sample], of arguments [sample], or [function, sample]."""
    llvm, dtype, _ = KINDS[kind]
    body, held, vector = "", "zeroinitializer", f"<{len(names)} x {llvm}>"
    columns = [argument.expand(len(names), 256) for argument in arguments]
    for index, name in enumerate(names):
        taken = []
        for place in range(len(columns)):
            taken.append(f"%a{index}.{place}")
            start = 256 * dtype.itemsize * (place * len(names) + index)
            body += f"""
  %column{index}.{place} = getelementptr i8, ptr addrspace(1) %in, i32 {start}
  %at{index}.{place} = getelementptr {llvm}, ptr addrspace(1) %column{index}.{place}, i32 %tid
  {taken[-1]} = load {llvm}, ptr addrspace(1) %at{index}.{place}"""
        body += f"""
  %f{index} = call {llvm} @__ocml_{name}_{kind}({", ".join(f"{llvm} {argument}" for argument in taken)})
  %v{index} = insertelement {vector} {held}, {llvm} %f{index}, i32 {index}"""
        held = f"%v{index}"
    words = len(names) * dtype.itemsize // 4
    body += f"\n  %y = bitcast {vector} {held} to {'i32' if words == 1 else f'<{words} x i32>'}"
    given = torch.stack(columns).contiguous().view(torch.int32)
    return run_lanes(body, given.flatten(), waves=4, words=words).view(dtype).view(256, len(names)).T


def same_bits(got: Tensor, want: Tensor) -> bool:
    """One NaN is as good as another."""
    numbers = {4: torch.int32, 8: torch.int64}[got.element_size()]
    differs = got.contiguous().view(numbers) != want.contiguous().view(numbers)
    return not bool((differs & ~(got.isnan() & want.isnan())).any())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arity", [1, 2, 3])
def test_the_bits_are_those_of_the_c_library(run_lanes: Run, arity: int, kind: str) -> None:
    names = {1: UNARY, 2: BINARY, 3: ["fma"]}[arity]
    columns = [samples(kind, seed) for seed in range(arity)]
    found = called(run_lanes, kind, names, columns)
    wrong = []
    for name, got in zip(names, found, strict=True):
        function = c_function(name, kind, arity)
        want = [function(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
        if not same_bits(got, torch.tensor(want, dtype=got.dtype)):
            wrong.append(name)
    # Of two zeros C leaves open which is the greater; here the host's is taken.
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_exponents_are_integers(run_lanes: Run, kind: str) -> None:
    llvm, dtype, _ = KINDS[kind]
    x = samples(kind, 3).abs()
    x[~(x.isfinite() & (x > 0))] = 0.75
    body = f"""
  %at = getelementptr {llvm}, ptr addrspace(1) %in, i32 %tid
  %a = load {llvm}, ptr addrspace(1) %at
  %exponent = call i32 @__ocml_ilogb_{kind}({llvm} %a)
  %back = sub i32 0, %exponent
  %significand = call {llvm} @__ocml_ldexp_{kind}({llvm} %a, i32 %back)
  %wide = {"fadd double %significand, 0.0" if kind == "f64" else "fpext float %significand to double"}
  %scaled = fmul double %wide, 65536.0
  %kept = fptosi double %scaled to i32
  %v = insertelement <2 x i32> zeroinitializer, i32 %exponent, i32 0
  %y = insertelement <2 x i32> %v, i32 %kept, i32 1"""
    got = run_lanes(body, x.view(torch.int32), waves=4, words=2).view(-1, 2).tolist()
    parts = [math.frexp(value) for value in x.tolist()]
    assert got == [[exponent - 1, int(fraction * 131072)] for fraction, exponent in parts]
    assert dtype == x.dtype


_GLIBC = pytest.mark.skipif(
    (platform.libc_ver()[0], platform.machine()) != ("glibc", "x86_64"),
    reason="its errors are those of glibc on x86-64",
)
# Where each is tried: the results are of usual size, and far from the zeros of Bessel functions.
INTERVALS = {
    "acos": (-1, 1), "acosh": (1, 9), "asin": (-1, 1), "asinh": (-9, 9), "atan": (-9, 9), "atanh": (-0.9, 0.9),
    "cbrt": (-9, 9), "cos": (-9, 9), "cosh": (-9, 9), "erf": (-2, 2), "erfc": (-2, 2), "exp": (-9, 9), "exp2": (-9, 9),
    "exp10": (-9, 9), "expm1": (-2, 2), "j0": (0.1, 1), "j1": (0.1, 1), "lgamma": (3, 9), "log": (0.1, 9),
    "log10": (0.1, 9), "log1p": (-0.5, 9), "log2": (0.1, 9), "sin": (-9, 9), "sinh": (-9, 9), "sqrt": (0, 9),
    "tan": (-9, 9), "tanh": (-3, 3), "tgamma": (1, 9), "y0": (0.1, 0.5), "y1": (0.1, 1),
}  # fmt: skip


@_GLIBC
@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_within_those_that_glibc_tells_of(run_lanes: Run, kind: str) -> None:
    """Every function that rounds, on 256 numbers of an interval, against mpmath's result with 40 digits."""
    mpmath = pytest.importorskip("mpmath")
    dtype = KINDS[kind][1]
    unit = torch.rand(len(INTERVALS), 256, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ends = torch.tensor([*INTERVALS.values()], dtype=torch.float64)
    x = torch.lerp(ends[:, :1], ends[:, 1:], unit).to(dtype)
    found = called(run_lanes, kind, [*INTERVALS], [x])
    exact = {
        "cbrt": lambda v: mpmath.sign(v) * mpmath.cbrt(abs(v)),
        "exp10": lambda v: mpmath.mpf(10) ** v,
        "exp2": lambda v: mpmath.mpf(2) ** v,
        "lgamma": mpmath.loggamma,
        "log2": lambda v: mpmath.log(v, 2),
        "tgamma": mpmath.gamma,
        "y0": lambda v: mpmath.bessely(0, v),
        "y1": lambda v: mpmath.bessely(1, v),
    }
    errors = {}
    with mpmath.workdps(40):
        for name, arguments, results in zip(INTERVALS, x, found, strict=True):
            function = exact.get(name) or getattr(mpmath, name)
            wants = [function(mpmath.mpf(argument)) for argument in arguments.tolist()]
            units = np.spacing(np.array([abs(float(want)) for want in wants]).astype(results.numpy().dtype))
            pairs = zip(results.tolist(), wants, units.tolist(), strict=True)
            errors[name] = max(float(abs(mpmath.mpf(got) - want) / unit) for got, want, unit in pairs)
    assert {name: error for name, error in errors.items() if not error <= largest_error(name, dtype)} == {}


@pytest.mark.parametrize("name", ["__ocml_i0_f32", "__ocml_sin_f16", "__ockl_mystery_u32"])
def test_what_c_has_not_is_named(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} has no equal on the host"):
        find_device_function(name)


VALUES = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38]
ANSWERS: dict[str, Callable[[float], bool]] = {
    "isnan": math.isnan,
    "isinf": math.isinf,
    "isfinite": math.isfinite,
    "signbit": lambda x: math.copysign(1, x) < 0,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ANSWERS)
def test_questions_about_a_float(run_lanes: Run, name: str, kind: str) -> None:
    assert QUESTIONS.keys() | {"signbit"} == ANSWERS.keys()
    x = torch.tensor(VALUES + [1.0] * (64 - len(VALUES)))
    wide = "%a = fpext float %f to double" if kind == "f64" else "%a = fadd float %f, -0.0"
    body = f"""
  %f = bitcast i32 %x to float
  {wide}
  %y = call i32 @__ocml_{name}_{kind}({KINDS[kind][0]} %a)"""
    assert run_lanes(body, x.view(torch.int32)).tolist() == [int(ANSWERS[name](value)) for value in x.tolist()]


COUNTS: dict[str, Callable[[int], int]] = {
    "__ockl_popcount_u32": int.bit_count,
    "__ockl_clz_u32": lambda word: 32 - word.bit_length(),
}


LONG_COUNTS: dict[str, Callable[[int], int]] = {
    "__ockl_popcount_u64": int.bit_count,
    "__ockl_clz_u64": lambda word: 64 - word.bit_length(),
}


@pytest.mark.parametrize("result", ["i32", "i64"])
@pytest.mark.parametrize("name", LONG_COUNTS)
def test_bits_of_two_words_are_counted(run_lanes: Run, name: str, result: str) -> None:
    words = torch.tensor([0, 1, 0xFFFFFFFF, 0x80000000, *range(60)]).to(torch.int32)
    body = f"""
  %low = zext i32 %x to i64
  %high = shl i64 %low, 20
  %found = call {result} @{name}(i64 %high)
  %y = {"add i32 %found, 0" if result == "i32" else "trunc i64 %found to i32"}"""
    want = [LONG_COUNTS[name](word % (1 << 32) << 20) for word in words.tolist()]
    assert run_lanes(body, words).tolist() == want


@pytest.mark.parametrize("name", COUNTS)
def test_bits_of_a_word_are_counted(run_lanes: Run, name: str) -> None:
    assert BITS.keys() == COUNTS.keys() | LONG_COUNTS.keys()
    words = [0, 1, 0xFFFFFFFF, 0x80000000, 0x00F0, *range(59)]
    x = torch.tensor(words).to(torch.int32)
    assert run_lanes(f"%y = call i32 @{name}(i32 %x)", x).tolist() == [COUNTS[name](word) for word in words]


@pytest.mark.parametrize("name", HIGH)
def test_the_upper_half_of_a_product(run_lanes: Run, name: str) -> None:
    bits, is_signed = int(name[-2:]), name[-3] == "i"
    edges = [0, 1, -1, (1 << bits - 1) - 1, -(1 << bits - 1), 12345, -678, 1 << bits // 2]
    pairs = [(a, b) for a in edges for b in edges]

    def read(word: int) -> int:
        return word if is_signed else word % (1 << bits)

    words = torch.tensor([[pair[side] for pair in pairs] for side in range(2)])
    given = words.to(torch.int32) if bits == 32 else words
    body = f"""
  %left.at = getelementptr i{bits}, ptr addrspace(1) %in, i32 %tid
  %further = add i32 %tid, 64
  %right.at = getelementptr i{bits}, ptr addrspace(1) %in, i32 %further
  %left = load i{bits}, ptr addrspace(1) %left.at
  %right = load i{bits}, ptr addrspace(1) %right.at
  %high = call i{bits} @{name}(i{bits} %left, i{bits} %right)
  %y = {"add i32 %high, 0" if bits == 32 else "bitcast i64 %high to <2 x i32>"}"""
    got = run_lanes(body, given.flatten().view(torch.int32), words=bits // 32).view(given.dtype).tolist()
    assert [word % (1 << bits) for word in got] == [(read(a) * read(b) >> bits) % (1 << bits) for a, b in pairs]
