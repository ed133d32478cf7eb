"""Operations on blocks: reductions, scans, orders, shapes, and random numbers."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from benchmarks.triton_native.language import function_kernels as functions
from benchmarks.triton_native.language.kernels import constant_kernel, tile_kernel, vector_kernel
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import (
    DTYPES,
    FLOATS,
    INTEGERS,
    array,
    differ,
    empty,
    farther,
    integers,
    tensor,
)

__all__ = ["ROWS", "philox"]

_M, _N = 32, 64
_NUMBERS = (*INTEGERS, *FLOATS)
Function = Callable[[np.ndarray], np.ndarray]


def _row(
    group: str,
    name: str,
    kernel: object,
    dtype: str,
    want: Function,
    *,
    result: str | None = None,
    bounds: tuple[int, int] = (0, 7),
) -> Row:
    def wrong(launch: Launch) -> int:
        # Small integers: their sums and products are exact in whatever order.
        x = integers(dtype, *bounds, (_M, _N), seed=1)
        expected = want(array(x))
        got = empty(result or dtype, expected.size)
        launch(tile_kernel, 1, x, got, M=_M, N=_N, K=expected.size, FN=kernel)
        return differ(got, expected.astype(array(got).dtype))

    return Row(group=group, operation=name, dtype=dtype, wrong=wrong)


def _wide(x: np.ndarray) -> np.ndarray:
    return x if x.dtype.kind in "iub" else x.astype(np.float64)


def _reduced(name: str, kernel: object, dtypes: tuple[str, ...], want: Function, **more: object) -> list[Row]:
    return [_row("reduction", name, kernel, dtype, lambda x: want(_wide(x)), **more) for dtype in dtypes]  # type: ignore[arg-type]


def _recurrence(x: np.ndarray) -> np.ndarray:
    out, state = np.empty_like(x), np.zeros_like(x[:, 0])
    for n in range(x.shape[1]):
        state = state * x[:, n] + x[:, n]
        out[:, n] = state
    return out


def _scanned(name: str, kernel: object, dtypes: tuple[str, ...], want: Function, **more: object) -> list[Row]:
    return [_row("scan", name, kernel, dtype, lambda x: want(_wide(x)), **more) for dtype in dtypes]  # type: ignore[arg-type]


def _cumulated(x: np.ndarray, axis: int) -> np.ndarray:
    return x.cumsum(axis, dtype=x.dtype)


# Products stay small and exact: of ones, and minus ones.
_SIGNS = (-1, 2)
_BITS = (0, 2)
_SHAPES: list[tuple[str, object, Function]] = [
    ("trans", functions.trans, lambda x: x.T),
    ("permute", functions.permute3, lambda x: x.reshape(4, _M // 4, _N).transpose(2, 0, 1)),
    ("ravel", functions.ravel, lambda x: x),
    ("view", functions.view_wide, lambda x: x),
    ("flip", functions.flip, lambda x: x[:, ::-1]),
    ("join", functions.join, lambda x: np.stack([x, x], -1)),
    ("split", functions.split, lambda x: x[:, 1::2]),
    ("interleave", functions.interleave, lambda x: np.repeat(x, 2, 1)),
    ("expand_dims and broadcast_to", functions.expand_and_broadcast, lambda x: np.repeat(x[:, None], 2, 1)),
    ("gather", functions.gather_reversed, lambda x: x[:, ::-1]),
    ("full", functions.full, lambda x: np.full(x.shape, 3)),
    ("zeros_like", functions.zeros_like, lambda x: np.zeros(x.shape)),
]


def _vector(name: str, kernel: object, dtype: str, want: Function, result: str) -> Row:
    def wrong(launch: Launch) -> int:
        x = integers(dtype, 0, 16, (512,), seed=2)
        expected = want(array(x))
        got = empty(result, expected.size)
        launch(vector_kernel, 1, x, got, N=512, K=expected.size, FN=kernel)
        if name == "cat, in any order":
            got, expected = tensor(np.sort(array(got))), np.sort(expected)
        return differ(got, expected.astype(array(got).dtype))

    return Row(group="order", operation=name, dtype=dtype, wrong=wrong)


def philox(counter: int, seed: int = 1234) -> list[int]:
    """Ten rounds of Philox 4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    c, k = [counter, 0, 0, 0], [seed, 0]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def _words(which: int) -> np.ndarray:
    return np.array([philox(at)[which] for at in range(256)], dtype=np.uint32).view(np.int32)


def _uniform(word: np.ndarray) -> np.ndarray:
    """What tl.rand makes of a word: its magnitude, those below zero by their complement, times just below 2**-31."""
    folded = np.where(word < 0, -word - 1, word).astype(np.float32)
    return folded * np.float32(4.6566127342e-10)


def _not_normal(got: Tensor) -> int:
    """Box and Muller's pair, r cos(a): r is off by the errors of a logarithm and a root, a by one rounding."""
    first = np.maximum(np.float32(1e-7), _uniform(_words(0))).astype(np.longdouble)
    angle = np.longdouble(np.float32(6.283185307179586)) * _uniform(_words(1))
    radius = np.sqrt(-2 * np.log(first))
    want = radius * np.cos(angle)
    # In units of 2**-24: of the angle, and of the radius, the cosine and their product 2 each at most.
    allowed = radius * (angle + 8) * 2.0**-24
    return farther(got, want, allowed / np.spacing(np.abs(want).astype(np.float32)))


def _random(name: str, kernel: object, dtype: str, wrong: Callable[[Tensor], int]) -> Row:
    def run(launch: Launch) -> int:
        got = empty(dtype, 256)
        launch(constant_kernel, 1, got, N=256, FN=kernel)
        return wrong(got)

    return Row(group="random", operation=name, dtype=dtype, wrong=run)


ROWS = [
    *_reduced("sum of rows", functions.total, _NUMBERS, lambda x: x.sum(1)),
    *_reduced("sum of columns", functions.total_of_columns, _NUMBERS, lambda x: x.sum(0)),
    *_reduced("max", functions.greatest, _NUMBERS, lambda x: x.max(1)),
    *_reduced("min", functions.least, _NUMBERS, lambda x: x.min(1)),
    *_reduced("argmax", functions.argmax, _NUMBERS, lambda x: x.argmax(1), result="int32"),
    *_reduced("argmin", functions.argmin, _NUMBERS, lambda x: x.argmin(1), result="int32"),
    *_reduced("argmax of columns", functions.argmax_of_columns, _NUMBERS, lambda x: x.argmax(0), result="int32"),
    *_reduced("xor_sum", functions.xor_sum, INTEGERS, lambda x: np.bitwise_xor.reduce(x, 1)),
    *_reduced("reduce_or", functions.reduce_or, ("bool", *INTEGERS), lambda x: np.bitwise_or.reduce(x, 1)),
    *_reduced("reduce, a function", functions.product, _NUMBERS, lambda x: x.prod(1, dtype=x.dtype), bounds=(1, 2)),
    *_scanned("cumsum of rows", functions.cumsum, _NUMBERS, lambda x: _cumulated(x, 1), bounds=(0, 2)),
    *_scanned("cumsum of columns", functions.cumsum_of_columns, _NUMBERS, lambda x: _cumulated(x, 0), bounds=(0, 2)),
    *_scanned(
        "cumsum, reverse",
        functions.cumsum_reverse,
        _NUMBERS,
        lambda x: _cumulated(x[:, ::-1], 1)[:, ::-1],
        bounds=(0, 2),
    ),
    *_scanned("cumprod", functions.cumprod, _NUMBERS, lambda x: x.cumprod(1, dtype=x.dtype), bounds=(1, 2)),
    *_scanned("associative_scan, a function of pairs", functions.recurrence, _NUMBERS, _recurrence, bounds=(0, 2)),
    *(_row("order", "sort", functions.sort, dtype, lambda x: np.sort(_wide(x), 1)) for dtype in _NUMBERS),
    *(
        _row("order", "sort, descending", functions.sort_descending, dtype, lambda x: np.sort(_wide(x), 1)[:, ::-1])
        for dtype in _NUMBERS
    ),
    *(_row("order", "topk", functions.topk, dtype, lambda x: np.sort(_wide(x), 1)[:, :-9:-1]) for dtype in _NUMBERS),
    *(
        _vector(
            "histogram", functions.histogram, dtype, lambda x: np.bincount(x.astype(np.int64), minlength=16), "int32"
        )
        for dtype in INTEGERS
    ),
    *(
        _vector("cat, in any order", functions.cat, dtype, lambda x: np.concatenate([x, x]), dtype)
        for dtype in ("int32", "float32")
    ),
    *(
        _row("shape", name, kernel, dtype, want, bounds=_BITS if dtype == "bool" else (0, 7))
        for name, kernel, want in _SHAPES
        for dtype in DTYPES
    ),
    *(
        _row("element by element", "map_elementwise", functions.map_elementwise, dtype, lambda x: x // 2)
        for dtype in ("int32", "int64")
    ),
    *(
        _row("element by element", "inline_asm_elementwise", functions.assembly, dtype, lambda x: x)
        for dtype in ("int32",)
    ),
    _random("randint", functions.randint, "int32", lambda got: differ(got, _words(0))),
    _random("randint4x", functions.randint4x, "int32", lambda got: differ(got, _words(3))),
    _random("rand", functions.rand, "float32", lambda got: differ(got, _uniform(_words(0)))),
    _random("randn", functions.randn, "float32", _not_normal),
]
