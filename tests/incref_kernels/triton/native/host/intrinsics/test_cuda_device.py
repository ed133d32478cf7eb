"""Every function of CUDA's device library that Triton has a name for: C's, exact arithmetic's, or an error."""

import ctypes
import ctypes.util
import inspect
import math
import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice

from incref.errors import UnsupportedError
from incref.formats.modes import Rounding
from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS
from incref.oracle.datum import Datum, Kind, number
from incref.oracle.encode import round_to
from incref_kernels.triton.native.host.intrinsics.libdevice import SAME, find_device_function
from incref_kernels.triton.native.native import native

Run = Callable[..., Tensor]
Value = float | int

_SOURCE = inspect.getsource(cuda_libdevice)
_KINDS = {"fp32": "float", "fp64": "double", "int32": "i32", "int64": "i64", "uint32": "i32", "uint64": "i64"}
# What C has not, and what would have to be rounded once more than double allows.
MISSING = {
    "cospi", "cyl_bessel_i0", "cyl_bessel_i1", "erfcinv", "erfcx", "erfinv", "norm3d", "norm4d", "normcdf",
    "normcdfinv", "rcbrt", "rcp64h", "rhypot", "rnorm3d", "rnorm4d", "rsqrt_rn", "sinpi",
}  # fmt: skip
DIRECTED_DOUBLES = re.compile(r"__nv_(d(add|sub|mul|div|rcp|sqrt)|fma|u?ll2double)_(rd|ru|rz)")


def signatures() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """By symbol: Triton's function, types of arguments, type of the result."""
    found = {}
    entry = re.compile(r"\(((?:core\.dtype\(\"\w+\"\),?)+)\):\(\"(__nv_\w+)\",core\.dtype\(\"(\w+)\"\)\)")
    for part in re.split(r"\n@core\.extern\n", _SOURCE)[1:]:
        name = re.match(r"def (\w+)", part)
        assert name is not None
        for given, symbol, result in entry.findall(re.sub(r"\s+", "", part)):
            found[symbol] = (name[1], tuple(re.findall(r"\"(\w+)\"", given)), result)
    return found


SIGNATURES = signatures()


def is_missing(symbol: str) -> bool:
    return SIGNATURES[symbol][0] in MISSING or DIRECTED_DOUBLES.fullmatch(symbol) is not None


def test_all_symbols_are_known() -> None:
    assert set(re.findall(r"\"(__nv_\w+)\"", _SOURCE)) == SIGNATURES.keys()


@pytest.mark.parametrize("symbol", SIGNATURES)
def test_a_function_is_defined_or_an_error_that_names_it(symbol: str) -> None:
    if is_missing(symbol):
        with pytest.raises(UnsupportedError, match=f"{symbol} has no equal on the host"):
            find_device_function(symbol)
    else:
        assert callable(find_device_function(symbol))


def test_the_page_names_what_is_missing() -> None:
    page = Path(__file__).parents[6] / "docs" / "triton-native.md"
    line = re.search(r"C has no equal of ([^:.]+)", page.read_text().replace("\n", " "))
    assert line is not None
    assert set(re.findall(r"`(\w+)`", line[1])) == MISSING


# 64 values of each type, in an order of its own for each argument.
FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.5, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, math.inf,
    -math.inf, math.nan, 2147483648.0, -2147483648.0, 4294967296.0, 9.3e18, -9.3e18, 1.9e19, 1e-20, 1e20, 0.1, -0.3,
    1.0000001, 0.99999994, 7.0, -13.0, 33554431.0, -16777217.5,
]  # fmt: skip
INTEGERS = [0, 1, -1, 2, -2, 7, 2**31 - 1, -(2**31), 16777217, -16777217, 33554431, 123456789, -987654321, 255, 0x3210]


def samples(kind: str, place: int) -> list[Value]:
    generator = torch.Generator().manual_seed(17 * place + len(kind))
    if kind.startswith("fp"):
        wide = torch.randn(64, generator=generator, dtype=torch.float64) * 10.0 ** (place * 3 % 5)
        chosen: list[Value] = [*FLOATS, *wide.tolist()][:64]
        chosen = [narrowed(value) for value in chosen] if kind == "fp32" else chosen
    else:
        bits = int(kind[-2:])
        edges = [value << bits - 32 for value in INTEGERS] if bits == 64 else []
        words = torch.randint(-(2**31), 2**31, (64,), generator=generator).tolist()
        chosen = [read(value, kind) for value in [*INTEGERS, *edges, *words][:64]]
    order = torch.randperm(64, generator=generator).tolist()
    return [chosen[index] for index in order]


def read(value: int, kind: str) -> int:
    """The integer of type `kind` with the bits of `value`."""
    bits = int(kind[-2:])
    value %= 1 << bits
    return value - (1 << bits) if kind.startswith("int") and value >> bits - 1 else value


def narrowed(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).float())


_PACKED = {"fp32": "<fxxxx", "fp64": "<d", "int32": "<ixxxx", "uint32": "<Ixxxx", "int64": "<q", "uint64": "<Q"}


def computed(run_lanes: Run, symbol: str, columns: Sequence[Sequence[Value]]) -> list[Value]:
    _, kinds, result = SIGNATURES[symbol]
    body, taken = "", []
    for place, kind in enumerate(kinds):
        llvm = _KINDS[kind]
        body += f"""
  %i{place} = add i32 %tid, {64 * place}
  %p{place} = getelementptr i64, ptr addrspace(1) %in, i32 %i{place}
  %a{place} = load {llvm}, ptr addrspace(1) %p{place}"""
        taken.append(f"{llvm} %a{place}")
    llvm = _KINDS[result]
    body += f"\n  %r = call {llvm} @{symbol}({', '.join(taken)})"
    width = 32 if llvm in {"float", "i32"} else 64
    raw = "%r"
    if llvm in {"float", "double"}:
        body += f"\n  %raw = bitcast {llvm} %r to i{width}"
        raw = "%raw"
    if width == 32:
        body += f"\n  %wide = zext i32 {raw} to i64"
        raw = "%wide"
    body += f"\n  %y = bitcast i64 {raw} to <2 x i32>"
    pairs = zip(kinds, columns, strict=True)
    held = b"".join(struct.pack(_PACKED[kind], value) for kind, column in pairs for value in column)
    given = torch.frombuffer(bytearray(held), dtype=torch.int32)
    got = run_lanes(body, given, words=2).numpy().tobytes()
    return [struct.unpack_from(_PACKED[result], got, 8 * lane)[0] for lane in range(64)]


def same(a: Value, b: Value) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("<d", a) == struct.pack("<d", b)
    return a == b


DEFINED = [symbol for symbol in SIGNATURES if not is_missing(symbol)]


@pytest.mark.parametrize("symbol", DEFINED)
def test_results_are_as_expected(run_lanes: Run, symbol: str) -> None:
    name, kinds, result = SIGNATURES[symbol]
    columns = [samples(kind, place) for place, kind in enumerate(kinds)]
    if name in {"jn", "yn", "ldexp", "scalbn"} or symbol in {"__nv_powi", "__nv_powif"}:
        # Their integers are small.
        columns = [[value % 40 if isinstance(value, int) else value for value in column] for column in columns]
    want = expected(symbol, name, kinds, result)
    got = computed(run_lanes, symbol, columns)
    wrong = [
        (row, g, w) for row, g in zip(zip(*columns, strict=True), got, strict=True) if not same(g, w := want(*row))
    ]
    assert wrong == []


# What is expected of each.
_MODES = {
    "rn": Rounding.NEAREST_EVEN,
    "rd": Rounding.TOWARD_NEGATIVE,
    "ru": Rounding.TOWARD_POSITIVE,
    "rz": Rounding.TOWARD_ZERO,
}
_FORMATS = {"fp32": "float32", "fp64": "float64"}


def expected(symbol: str, name: str, kinds: tuple[str, ...], result: str) -> Callable[..., Value]:
    own = symbol.removeprefix("__nv_")
    if own in BY_NAME:
        return BY_NAME[own]
    if own.startswith("fast_"):
        return c_function(name.removeprefix("fast_").removesuffix("f"), kinds, result)
    if name in _ASKED:
        return lambda x: int(_ASKED[name](x))
    mode = _MODES.get(own.rpartition("_")[2])
    if mode is None:
        return c_function("pow" if own.startswith("powi") else name, kinds, result)
    return expected_of_rounding(own, name, kinds, result, mode)


def expected_of_rounding(
    own: str, name: str, kinds: tuple[str, ...], result: str, mode: Rounding
) -> Callable[..., Value]:
    if result.startswith("int"):
        # Triton has no name for what is unsigned.
        kind = f"u{result}" if "2u" in own else result
        return lambda x: read(to_integer(x, mode, kind), result)
    bits = int(kinds[0][-2:])
    if own.startswith("u"):
        return lambda x: rounded(name, [x % (1 << bits)], mode, result)
    return lambda *values: rounded(name, values, mode, result)


_ASKED = {
    "isnan": math.isnan,
    "isinf": math.isinf,
    "isfinited": math.isfinite,
    "finitef": math.isfinite,
    "signbit": lambda x: math.copysign(1, x) < 0,
}


@cache
def c_function(name: str, kinds: tuple[str, ...], result: str) -> Callable[..., Value]:
    """C's function; an integer power is found in double, which is then rounded."""
    assert name in {*SAME, "abs", "scalbn", "jn", "yn", "pow"}
    is_power = name == "pow" and kinds[1] == "int32"
    wide = "fp64" if is_power else result if result.startswith("fp") else kinds[0]
    types = {"fp32": ctypes.c_float, "fp64": ctypes.c_double, "int32": ctypes.c_int}
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    own = "fabs" if name == "abs" else name
    try:
        function = library[own + ("f" if wide == "fp32" else "")]
    except AttributeError:
        pytest.skip(f"this C library has no {own}")
    function.restype = types["fp64" if is_power else result]
    function.argtypes = [ctypes.c_double] * 2 if is_power else [types[kind] for kind in kinds]
    if is_power and result == "fp32":
        return lambda *values: narrowed(function(*values))
    return function


def to_integer(x: float, mode: Rounding, result: str) -> int:
    bits = int(result[-2:])
    least, most = (0, (1 << bits) - 1) if result.startswith("uint") else (-(1 << bits - 1), (1 << bits - 1) - 1)
    if not math.isfinite(x):
        return 0 if math.isnan(x) else most if x > 0 else least
    exact = Fraction(x)
    nearest = {
        Rounding.NEAREST_EVEN: round,
        Rounding.TOWARD_NEGATIVE: math.floor,
        Rounding.TOWARD_POSITIVE: math.ceil,
        Rounding.TOWARD_ZERO: math.trunc,
    }[mode](exact)
    return min(max(nearest, least), most)


def rounded(name: str, values: Sequence[Value], mode: Rounding, result: str) -> float:
    """The exact result, rounded once; what has none is IEEE 754's, as doubles have it."""
    operation = name.rpartition("_")[0]
    if operation == "rcp":
        operation, values = "div", [1.0, *values]
    if not all(math.isfinite(value) for value in values):
        return without_numbers(operation, [float(value) for value in values])
    fmt = FORMATS[_FORMATS[result]]
    assert isinstance(fmt, FloatFormat)
    exact = [Fraction(value) for value in values]
    signs = [math.copysign(1, value) for value in values]
    if operation == "div" and exact[1] == 0:
        return math.copysign(math.inf, signs[0] * signs[1]) if exact[0] else math.nan
    if operation == "sqrt":
        return root(exact[0], fmt, mode, negative_zero=signs[0] < 0) if exact[0] >= 0 else math.nan
    if operation in {"add", "sub", "fma"}:
        return total(operation, exact, signs, fmt, mode)
    found = {"div": lambda: exact[0] / exact[1], "mul": lambda: exact[0] * exact[1]}.get(operation, lambda: exact[0])()
    return written(found, fmt, mode, is_negative=math.prod(signs) < 0)


def total(operation: str, exact: list[Fraction], signs: list[float], fmt: FloatFormat, mode: Rounding) -> float:
    """A sum: of opposite zeros, or of what cancels, it is -0 only where it is rounded down."""
    first = (exact[0] * exact[1], signs[0] * signs[1]) if operation == "fma" else (exact[0], signs[0])
    last = (-exact[1], -signs[1]) if operation == "sub" else (exact[-1], signs[-1])
    found = first[0] + last[0]
    both = first[1] < 0 and last[1] < 0
    is_negative = found < 0 if found else both or (mode is Rounding.TOWARD_NEGATIVE and not first[1] == last[1] == 1)
    return written(found, fmt, mode, is_negative=is_negative)


def written(value: Fraction, fmt: FloatFormat, mode: Rounding, *, is_negative: bool) -> float:
    return as_float(round_to(number(value, is_negative=is_negative), fmt, mode))


def as_float(x: Datum) -> float:
    size = float(x.magnitude) if x.kind is Kind.FINITE else math.inf
    return math.copysign(size, -1 if x.is_negative else 1)


def root(x: Fraction, fmt: FloatFormat, mode: Rounding, *, negative_zero: bool) -> float:
    """From enough digits of the root, and whether there are more."""
    if x == 0:
        return -0.0 if negative_zero else 0.0
    scale = 1 << 400
    digits = math.isqrt(x.numerator * scale * scale // x.denominator)
    exact = Fraction(digits, scale)
    return written(exact if exact * exact == x else exact + Fraction(1, 2 * scale), fmt, mode, is_negative=False)


def without_numbers(operation: str, values: list[float]) -> float:
    """IEEE 754's result where one of the values is Inf or NaN."""
    if any(map(math.isnan, values)) or (operation == "sqrt" and values[0] < 0):
        return math.nan
    if operation == "div":
        a, b = values
        return math.copysign(math.inf, a) * math.copysign(1, b) if b == 0 else a / b
    a, *others = values
    if operation == "fma":
        return a * others[0] + others[1]
    return {"add": lambda: a + others[0], "sub": lambda: a - others[0], "mul": lambda: a * others[0]}.get(
        operation, lambda: a
    )()


def word(value: Value) -> int:
    return int(value) % (1 << 32)


def float_bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def byte_perm(x: int, y: int, selector: int) -> int:
    held = (word(x) | word(y) << 32).to_bytes(8, "little")
    return read(int.from_bytes(bytes(held[selector >> 4 * place & 7] for place in range(4)), "little"), "int32")


def low_24(value: int) -> int:
    return value % (1 << 24) - (1 << 24 if value >> 23 & 1 else 0)


def saturated(x: float) -> float:
    return min(max(x, 0.0), 1.0) if x > 0 else 0.0


def quotient(a: float, b: float) -> float:
    return rounded("div_rn", (a, b), Rounding.NEAREST_EVEN, "fp32")


def half_away(x: float) -> int:
    if not math.isfinite(x):
        return to_integer(x, Rounding.TOWARD_ZERO, "int64")
    exact = Fraction(x)
    return to_integer(
        float(math.floor(abs(exact) + Fraction(1, 2))) * math.copysign(1, x), Rounding.TOWARD_ZERO, "int64"
    )


def inverse_root(x: float, *, is_narrow: bool) -> float:
    """A root and a division in double."""
    if x == 0:
        return math.copysign(math.inf, x)
    found = 1 / math.sqrt(x) if x > 0 else math.nan
    return narrowed(found) if is_narrow else found


def to_int32(value: int) -> int:
    return read(value, "int32")


BY_NAME: dict[str, Callable[..., Value]] = {
    "float_as_int": lambda x: struct.unpack("<i", struct.pack("<f", x))[0],
    "float_as_uint": lambda x: read(struct.unpack("<I", struct.pack("<f", x))[0], SIGNATURES["__nv_float_as_uint"][2]),
    "int_as_float": lambda x: struct.unpack("<f", struct.pack("<i", x))[0],
    "uint_as_float": lambda x: struct.unpack("<f", struct.pack("<I", word(x)))[0],
    "double_as_longlong": lambda x: read(float_bits(x), "int64"),
    "longlong_as_double": lambda x: struct.unpack("<d", struct.pack("<q", x))[0],
    "double2loint": lambda x: to_int32(float_bits(x)),
    "double2hiint": lambda x: to_int32(float_bits(x) >> 32),
    "hiloint2double": lambda hi, lo: struct.unpack("<d", struct.pack("<II", word(lo), word(hi)))[0],
    "byte_perm": byte_perm,
    "brev": lambda x: to_int32(int(f"{word(x):032b}"[::-1], 2)),
    "brevll": lambda x: read(int(f"{x % (1 << 64):064b}"[::-1], 2), "int64"),
    "abs": lambda x: to_int32(abs(x)),
    "llabs": lambda x: read(abs(x), "int64"),
    "mulhi": lambda a, b: to_int32(a * b >> 32),
    "umulhi": lambda a, b: word(a) * word(b) >> 32,
    "mul64hi": lambda a, b: read(a * b >> 64, "int64"),
    "umul64hi": lambda a, b: (a % (1 << 64)) * (b % (1 << 64)) >> 64,
    "mul24": lambda a, b: to_int32(low_24(a) * low_24(b)),
    "umul24": lambda a, b: word(a % (1 << 24) * (b % (1 << 24))),
    "hadd": lambda a, b: a + b >> 1,
    "uhadd": lambda a, b: word(a) + word(b) >> 1,
    "rhadd": lambda a, b: a + b + 1 >> 1,
    "urhadd": lambda a, b: word(a) + word(b) + 1 >> 1,
    "sad": lambda a, b, c: to_int32(abs(a - b) + c),
    "usad": lambda a, b, c: word(abs(word(a) - word(b)) + word(c)),
    "ffs": lambda x: (x & -x).bit_length(),
    "ffsll": lambda x: (x & -x).bit_length(),
    "clz": lambda x: 32 - word(x).bit_length(),
    "clzll": lambda x: 64 - (x % (1 << 64)).bit_length(),
    "popc": lambda x: word(x).bit_count(),
    "popcll": lambda x: (x % (1 << 64)).bit_count(),
    "saturatef": saturated,
    "fast_fdividef": quotient,
    "llrint": lambda x: to_integer(x, Rounding.NEAREST_EVEN, "int64"),
    "llrintf": lambda x: to_integer(x, Rounding.NEAREST_EVEN, "int64"),
    "llround": half_away,
    "llroundf": half_away,
    "rsqrt": lambda x: inverse_root(x, is_narrow=False),
    "rsqrtf": lambda x: inverse_root(x, is_narrow=True),
}


@triton.jit
def library_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, libdevice.cbrt(libdevice.tanh(tl.load(x + at))))


@triton.jit
def cuda_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, cuda_libdevice.cbrt(cuda_libdevice.tanh(tl.load(x + at))))


@triton.jit
def missing_kernel(x, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(x + at, libdevice.erfinv(tl.load(x + at)))


@pytest.mark.parametrize("kernel", [library_kernel, cuda_kernel], ids=["libdevice", "cuda"])
def test_kernels_call_them_by_either_library(kernel: object) -> None:
    x, y = torch.linspace(-2, 2, 64), torch.zeros(64)
    native(kernel)[1](x, y, N=64)
    tanh, cbrt = (c_function(name, ("fp32",), "fp32") for name in ("tanh", "cbrt"))
    assert y.tolist() == [cbrt(tanh(value)) for value in x.tolist()]


def test_a_kernel_that_calls_what_c_has_not() -> None:
    with pytest.raises(UnsupportedError, match=r"erfinv_f32 has no equal on the host, at .*test_cuda_device.py:\d+"):
        native(missing_kernel)[1](torch.zeros(64), N=64)
