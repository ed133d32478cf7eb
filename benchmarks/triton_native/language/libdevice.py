"""The functions of `triton.language.extra.libdevice`."""

import math
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.triton_native.language import libdevice_kernels as functions
from benchmarks.triton_native.language.c_library import largest_error
from benchmarks.triton_native.language.kernels import binary_kernel, unary_kernel
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import array, differ, empty, farther, integers, reals

__all__ = ["ROWS"]

_COUNT = 1 << 12
Function = Callable[..., np.ndarray]


def _of_math(name: str) -> Function:
    """Python's function, whose doubles are as good as exact beside float32."""
    return np.vectorize(getattr(math, name), otypes=[np.float64])


def _of_c(name: str) -> float:
    return largest_error(name, torch.float32)


def _of_torch(name: str) -> Function:
    function = getattr(torch.special, name)
    return lambda x: function(torch.from_numpy(x)).numpy()


def _function(name: str) -> object:
    """The function that applies it; the names of Python's own functions have a line behind them."""
    return getattr(functions, name, None) or getattr(functions, f"{name}_")


def _row(name: str, dtype: str, want: Function, bounds: tuple[float, float], *, ulps: float, arity: int) -> Row:
    def wrong(launch: Launch) -> int:
        blocks = [reals(dtype, *bounds, seed=seed, count=_COUNT) for seed in range(1, arity + 1)]
        got = empty(dtype, _COUNT)
        kernel = binary_kernel if arity == 2 else unary_kernel
        launch(kernel, 1, *blocks, got, N=_COUNT, FN=_function(name))
        exact = want(*(array(block).astype(np.float64) for block in blocks))
        return farther(got, exact.astype(np.longdouble), ulps)

    return Row(group="libdevice", operation=name, dtype=dtype, wrong=wrong)


def _predicate(name: str, dtype: str, want: Function) -> Row:
    def wrong(launch: Launch) -> int:
        x = reals(dtype, -2, 2, count=_COUNT)
        x[::5], x[1::5], x[2::5], x[3::5] = float("nan"), float("inf"), -float("inf"), -0.0
        got = empty("int32", _COUNT)
        launch(unary_kernel, 1, x, got, N=_COUNT, FN=_function(name))
        return differ((got != 0).int(), want(array(x)).astype(np.int32))

    return Row(group="libdevice", operation=name, dtype=dtype, wrong=wrong)


def _counted(name: str, want: Callable[[int], int]) -> Row:
    def wrong(launch: Launch) -> int:
        x = integers("int32", -(1 << 31), 1 << 31, (_COUNT,), seed=1)
        got = empty("int32", _COUNT)
        launch(unary_kernel, 1, x, got, N=_COUNT, FN=_function(name))
        return differ(got, np.array([want(int(v) & 0xFFFFFFFF) for v in array(x)], dtype=np.int32))

    return Row(group="libdevice", operation=name, dtype="int32", wrong=wrong)


# Name, what it is, where it is tried. Those that C rounds may be as far off as the C library's.
_ROUNDED: list[tuple[str, Function, tuple[float, float]]] = [
    ("exp2", np.exp2, (-9, 9)), ("sin", np.sin, (-9, 9)), ("cos", np.cos, (-9, 9)), ("tan", np.tan, (-9, 9)),
    ("sqrt", np.sqrt, (0, 9)), ("sinh", np.sinh, (-9, 9)), ("cosh", np.cosh, (-9, 9)), ("tanh", np.tanh, (-3, 3)),
    ("asin", np.arcsin, (-1, 1)), ("acos", np.arccos, (-1, 1)), ("atan", np.arctan, (-9, 9)),
    ("asinh", np.arcsinh, (-9, 9)), ("acosh", np.arccosh, (1, 9)), ("atanh", np.arctanh, (-0.9, 0.9)),
    ("log", np.log, (0.1, 9)), ("log2", np.log2, (0.1, 9)), ("log10", np.log10, (0.1, 9)),
    ("log1p", np.log1p, (-0.5, 9)), ("expm1", np.expm1, (-2, 2)), ("erf", _of_math("erf"), (-2, 2)),
    ("erfc", _of_math("erfc"), (-2, 2)), ("lgamma", _of_math("lgamma"), (3, 9)),
]  # fmt: skip
# Exact ones; those that round once: rsqrt is a root and a division in double, off by 2**-52 of its result before.
_ONCE: list[tuple[str, Function, tuple[float, float], float]] = [
    ("floor", np.floor, (-9, 9), 0), ("ceil", np.ceil, (-9, 9), 0), ("trunc", np.trunc, (-9, 9), 0),
    ("rint", np.rint, (-9, 9), 0), ("nearbyint", np.rint, (-9, 9), 0), ("abs", np.abs, (-9, 9), 0),
    ("round", lambda x: np.trunc(x + np.copysign(0.5, x)), (-9, 9), 0),
    ("rsqrt", lambda x: 1 / np.sqrt(x), (0.1, 9), 0.5 + 2.0**-28),
    # Triton makes it of exp2 (see `elementwise`).
    ("exp", np.exp, (-2, 2), 2 * 2 + _of_c("exp2")),
]  # fmt: skip
_ONE: list[tuple[str, Function, tuple[float, float], float]] = [
    *((name, want, bounds, _of_c(name)) for name, want, bounds in _ROUNDED),
    *_ONCE,
]
_TWO: list[tuple[str, Function, tuple[float, float], float]] = [
    ("atan2", np.arctan2, (-9, 9), _of_c("atan2")), ("pow", np.power, (0.1, 9), _of_c("pow")),
    ("hypot", np.hypot, (-9, 9), _of_c("hypot")), ("fmod", np.fmod, (-9, 9), 0), ("copysign", np.copysign, (-9, 9), 0),
]  # fmt: skip
_DTYPES = ("float32",)
# Of PyTorch, in float64.
_SPECIAL = [
    ("j0", "bessel_j0", _of_c("j0")), ("j1", "bessel_j1", _of_c("j1")), ("y0", "bessel_y0", _of_c("y0")),
    ("y1", "bessel_y1", _of_c("y1")),
    # C has none of these; what is tried is whether that is said.
    ("cyl_bessel_i0", "i0", 0.5), ("cyl_bessel_i1", "i1", 0.5), ("erfinv", "erfinv", 0.5), ("erfcx", "erfcx", 0.5),
]  # fmt: skip
ROWS = [
    *(_row(name, dtype, want, bounds, ulps=ulps, arity=1) for name, want, bounds, ulps in _ONE for dtype in _DTYPES),
    *(_row(name, dtype, want, bounds, ulps=ulps, arity=2) for name, want, bounds, ulps in _TWO for dtype in _DTYPES),
    *(_predicate("isnan", dtype, np.isnan) for dtype in ("float32", "float64")),
    *(_predicate("isinf", dtype, np.isinf) for dtype in ("float32", "float64")),
    *(_predicate("signbit", dtype, np.signbit) for dtype in ("float32", "float64")),
    _predicate("finitef", "float32", np.isfinite),
    _counted("popc", int.bit_count),
    _counted("clz", lambda v: 32 - v.bit_length()),
    *(_row(name, "float32", _of_torch(peer), (0.1, 0.9), ulps=ulps, arity=1) for name, peer, ulps in _SPECIAL),
]
