"""Operations element by element."""

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

from benchmarks.triton_native.language import function_kernels as functions
from benchmarks.triton_native.language.c_library import largest_error
from benchmarks.triton_native.language.kernels import binary_kernel, ternary_kernel, unary_kernel
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import (
    BITS8,
    DTYPES,
    FLOATS,
    INTEGERS,
    SIGNED,
    array,
    differ,
    empty,
    farther,
    is_float,
    patterns,
    reals,
    tensor,
)
from incref.formats import Overflow
from incref.ops import encode

__all__ = ["ROWS"]

_BLOCK = 1 << 13
_SMALL8 = ("float8_e4m3fn", "float8_e5m2")
_NUMBERS = (*INTEGERS, *FLOATS, *_SMALL8)
Function = Callable[..., np.ndarray]


def _once(function: Function) -> Function:
    """Compute in float32 what has fewer than half of its bits, and round once more: the correctly rounded result."""

    def apply(*arrays: np.ndarray) -> np.ndarray:
        kind = arrays[0].dtype
        if kind.itemsize > 2 or kind.kind in "iub":
            return function(*arrays)
        found = function(*(x.astype(np.float32) for x in arrays))
        return found if found.dtype == bool else found.astype(kind)

    return apply


def _operands(dtype: str, count: int) -> list[np.ndarray]:
    """Blocks of values: any integer; of floats numbers of a size that leaves sums and products in range."""
    if not is_float(dtype):
        return [array(patterns(dtype, seed)) for seed in range(1, count + 1)]
    low, high = (-8.0, 8.0) if dtype in BITS8 else (-100.0, 100.0)
    blocks = [array(reals(dtype, low, high, seed)) for seed in range(1, count + 1)]
    if dtype not in BITS8:
        for place, block in enumerate(blocks):
            # NaN, both zeros, the infinities and subnormals, at places of which each block has some of its own.
            odd = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf], dtype=block.dtype)
            for index, value in enumerate(odd):
                block[index * 3 + place :: 97 + place] = value
            block[50 + place :: 101 + place] = ml_dtypes.finfo(block.dtype).smallest_subnormal
    return blocks


def _row(name: str, kernel: object, dtype: str, want: Function, *, arity: int, result: str | None = None) -> Row:
    def wrong(launch: Launch) -> int:
        blocks = _operands(dtype, arity)
        if name in {"x // y", "x % y", "cdiv"}:
            blocks[1] = np.where(blocks[1] == 0, 1, blocks[1]).astype(blocks[1].dtype)
        if name in {"x << y", "x >> y"}:
            blocks[1] = blocks[1] & blocks[1].dtype.type(8 * blocks[1].itemsize - 1)
        if name == "clamp":
            blocks[1:] = [np.full_like(blocks[1], -3 if dtype in FLOATS else 2), np.full_like(blocks[2], 5)]
        got = empty(result or dtype, len(blocks[0]))
        launcher = {1: unary_kernel, 2: binary_kernel, 3: ternary_kernel}[arity]
        launch(launcher, len(blocks[0]) // _BLOCK, *map(tensor, blocks), got, N=_BLOCK, FN=kernel)
        return differ(got, want(*blocks))

    return Row(group="element by element", operation=name, dtype=dtype, wrong=wrong)


def _rows(
    name: str, kernel: object, dtypes: tuple[str, ...], want: Function, *, arity: int, result: str | None = None
) -> list[Row]:
    return [_row(name, kernel, dtype, _once(want), arity=arity, result=result) for dtype in dtypes]


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Division that rounds towards zero, as in C; the least integer by -1 is itself."""
    floor = x // y
    return (floor + ((floor < 0) & (floor * y != x))).astype(x.dtype)


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.fmod(x, y)
    return (x - _quotient(x, y) * y).astype(x.dtype)


def _least_of_zeros(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & (y == 0), np.where(np.signbit(x) | np.signbit(y), -abs(x), abs(x)), np.minimum(x, y))


def _greatest_of_zeros(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & (y == 0), np.where(np.signbit(x) & np.signbit(y), -abs(x), abs(x)), np.maximum(x, y))


def _extreme(of_floats: Function, of_integers: Function) -> Function:
    return lambda x, y: (of_floats if x.dtype.kind == "f" else of_integers)(x, y)


def _number(of_both: Function) -> Function:
    """Drop a NaN where the other one is a number."""

    def apply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "f":
            return of_both(x, y)
        return np.where(np.isnan(x), y, np.where(np.isnan(y), x, of_both(x, y)))

    return apply


def _high(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = 8 * x.itemsize
    mask = (1 << bits) - 1
    products = [(int(a) & mask) * (int(b) & mask) >> bits for a, b in zip(x, y, strict=True)]
    return np.array(products, dtype=f"u{x.itemsize}").view(x.dtype)


def _fused(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """One rounding. Of numbers of like size 24 bits times 24 bits plus 24 bits fit a long double's 64."""
    if x.dtype.itemsize > 2:
        return (x.astype(np.longdouble) * y + w).astype(x.dtype)
    # Of 16 bits the product is exact in double; the sum is rounded to odd, so that the second rounding decides alone.
    product, added = x.astype(np.float64) * y.astype(np.float64), w.astype(np.float64)
    total = product + added
    rest = total - product
    error = (product - (total - rest)) + (added - rest)
    bits = total.view(np.int64)
    inexact = np.isfinite(error) & (error != 0) & (bits % 2 == 0)
    odd = np.where(inexact, bits + np.where((error < 0) ^ (total < 0), -1, 1), bits).view(np.float64)
    return array(encode(tensor(odd), x.dtype.name, overflow=Overflow.NONSATURATE).view(DTYPES[x.dtype.name]))


_maximum, _minimum = _extreme(_greatest_of_zeros, np.maximum), _extreme(_least_of_zeros, np.minimum)
_WHOLE: list[Row] = [
    *_rows("-x", functions.neg, _NUMBERS, np.negative, arity=1),
    *_rows("abs", functions.absolute, (*SIGNED, *FLOATS, *_SMALL8), np.abs, arity=1),
    *_rows("~x", functions.invert, ("bool", *INTEGERS), np.invert, arity=1),
    *_rows("floor", functions.floor, ("float32", "float64"), np.floor, arity=1),
    *_rows("ceil", functions.ceil, ("float32", "float64"), np.ceil, arity=1),
    *_rows("sqrt", functions.sqrt, ("float32", "float64"), np.sqrt, arity=1),
    *_rows("sqrt_rn", functions.sqrt_rn, ("float32",), np.sqrt, arity=1),
    *_rows("x + y", functions.add, _NUMBERS, np.add, arity=2),
    *_rows("x - y", functions.sub, _NUMBERS, np.subtract, arity=2),
    *_rows("x * y", functions.mul, _NUMBERS, np.multiply, arity=2),
    *_rows("x / y", functions.truediv, FLOATS, np.divide, arity=2),
    *_rows("fdiv", functions.fdiv, FLOATS, np.divide, arity=2),
    *_rows("div_rn", functions.div_rn, ("float32",), np.divide, arity=2),
    *_rows("x // y", functions.floordiv, INTEGERS, _quotient, arity=2),
    *_rows("x % y", functions.mod, (*INTEGERS, "float32", "float64"), _remainder, arity=2),
    *_rows(
        "cdiv",
        functions.cdiv,
        ("uint8", "uint16", "uint32"),
        lambda x, y: _quotient(x + (y - y.dtype.type(1)), y),
        arity=2,
    ),
    *_rows("x & y", functions.bit_and, ("bool", *INTEGERS), np.bitwise_and, arity=2),
    *_rows("x | y", functions.bit_or, ("bool", *INTEGERS), np.bitwise_or, arity=2),
    *_rows("x ^ y", functions.bit_xor, ("bool", *INTEGERS), np.bitwise_xor, arity=2),
    *_rows("x << y", functions.shift_left, INTEGERS, np.left_shift, arity=2),
    *_rows("x >> y", functions.shift_right, INTEGERS, np.right_shift, arity=2),
    *_rows("x < y", functions.less, _NUMBERS, np.less, arity=2, result="bool"),
    *_rows("x <= y", functions.less_equal, _NUMBERS, np.less_equal, arity=2, result="bool"),
    *_rows("x == y", functions.equal, _NUMBERS, np.equal, arity=2, result="bool"),
    *_rows("x != y", functions.not_equal, _NUMBERS, np.not_equal, arity=2, result="bool"),
    *_rows("x > y", functions.greater, _NUMBERS, np.greater, arity=2, result="bool"),
    *_rows("where(x > y, x, y)", functions.where_greater, _NUMBERS, lambda x, y: np.where(x > y, x, y), arity=2),
    *_rows("maximum, NaN propagated", functions.maximum, (*INTEGERS, *FLOATS), _maximum, arity=2),
    *_rows("minimum, NaN propagated", functions.minimum, (*INTEGERS, *FLOATS), _minimum, arity=2),
    *_rows("maximum, NaN dropped", functions.maximum_number, FLOATS, _number(_maximum), arity=2),
    *_rows("minimum, NaN dropped", functions.minimum_number, FLOATS, _number(_minimum), arity=2),
    *_rows("umulhi", functions.umulhi, ("int32", "int64", "uint32", "uint64"), _high, arity=2),
    *(_row("fma", functions.fma, dtype, _fused, arity=3) for dtype in ("float16", "bfloat16", "float32")),
    *_rows("x * y + w", functions.multiply_add, (*INTEGERS, "float32", "float64"), lambda x, y, w: x * y + w, arity=3),
    *_rows("clamp", functions.clamp, FLOATS, lambda x, y, w: np.minimum(np.maximum(x, y), w), arity=3),
]


def _inexact(
    name: str, kernel: object, dtype: str, *, bounds: tuple[float, float], want: Function, ulps: Function
) -> Row:
    def wrong(launch: Launch) -> int:
        x = reals(dtype, *bounds, seed=4)
        got = empty(dtype, len(x))
        launch(unary_kernel, len(x) // _BLOCK, x, got, N=_BLOCK, FN=kernel)
        narrow = array(x)
        return farther(got, want(narrow.astype(np.longdouble)), ulps(narrow))

    return Row(group="functions", operation=name, dtype=dtype, wrong=wrong)


def _erf(x: np.ndarray) -> np.ndarray:
    """By its Taylor series, in long double: below 3 its terms cancel to within 2**-50."""
    term, total = x.copy(), x.copy()
    for n in range(1, 80):
        term = -term * x * x / n
        total += term / (2 * n + 1)
    return total * 2 / np.sqrt(np.longdouble(np.pi))


def _of_c(name: str) -> Function:
    return lambda x: np.asarray(largest_error(name, DTYPES[x.dtype.name]))


def _of_exp2(x: np.ndarray) -> np.ndarray:
    """Add to exp2's error what exp, which is exp2 of a product, has of its rounding and the constant's: 2 |x| units."""
    return largest_error("exp2", DTYPES[x.dtype.name]) + 2 * np.abs(x)


def _of_log2(x: np.ndarray) -> np.ndarray:
    """Take log2's error into log, which is log2 times ln 2.

    The unit of the product is that of log2 or half of it: log2's error becomes 2 ln 2 times as many units. Half a unit
    is the product's rounding, and half a unit of the constant's last place moves it by one unit at most.
    """
    return np.asarray(2 * math.log(2) * largest_error("log2", DTYPES[x.dtype.name]) + 0.5 + 1)


# How many units in the last place a result may be off, given the arguments. rsqrt is a root and a division in double:
# each is off by 2**-53 of its result, which is one unit at most; of a float it is rounded once more.
_FUNCTIONS: list[tuple[str, object, tuple[float, float], Function, Function]] = [
    ("exp", functions.exp, (-80, 80), np.exp, _of_exp2),
    ("exp2", functions.exp2, (-120, 120), np.exp2, _of_c("exp2")),
    ("log", functions.log, (1e-3, 1e3), np.log, _of_log2),
    ("log2", functions.log2, (1e-3, 1e3), np.log2, _of_c("log2")),
    ("sin", functions.sin, (-100, 100), np.sin, _of_c("sin")),
    ("cos", functions.cos, (-100, 100), np.cos, _of_c("cos")),
    ("erf", functions.erf, (-2, 2), _erf, _of_c("erf")),
    ("rsqrt", functions.rsqrt, (1e-3, 1e3), lambda x: 1 / np.sqrt(x), lambda _: 2.0),
]
ROWS = [
    *_WHOLE,
    *(
        _inexact(name, kernel, dtype, bounds=bounds, want=want, ulps=ulps)
        for name, kernel, bounds, want, ulps in _FUNCTIONS
        for dtype in ("float32", "float64")
    ),
]
