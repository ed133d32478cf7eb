"""One block of columns of GPTQ, a row of weights at a time (arXiv 2210.17323, algorithm 1, its inner loop)."""

from collections.abc import Sequence
from dataclasses import replace

from incref.formats import FloatFormat, IntFormat, IntRange, ScaleArithmetic
from incref.oracle.affine import quantize_affine
from incref.oracle.arithmetic import divide, multiply
from incref.oracle.datum import Datum, number
from incref.oracle.dot import add
from incref.oracle.encode import round_to
from incref.oracle.scaled import dequantize

__all__ = ["update_row"]


def update_row(
    ws: Sequence[Datum],
    upper: Sequence[Sequence[Datum]],
    scales: Sequence[Datum],
    zero_points: Sequence[int],
    fmt: IntFormat,
    *,
    working: FloatFormat,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    int_range: IntRange = IntRange.FULL,
) -> tuple[list[int], list[Datum], list[Datum]]:
    """Quantize the weights of a row in their order, and take the error of each out of those that follow.

    Args:
        ws: the weights.
        upper: U, the upper Cholesky factor of the inverse Hessian, row by row.
        scales: one for each weight.
        zero_points: likewise.
        fmt: of the codes.
        working: the format in which every operation is rounded.
        arithmetic: whether a weight is divided by its scale or multiplied with the reciprocal.
        int_range: whether the least code of a signed format is used.

    Returns:
        `(codes, errors, updated)`: `error_j = RN(RN(w_j - value_j) / U_jj)`, and then
        `w_k = RN(w_k - RN(U_jk * error_j))` for every k > j; `updated` is w as it was quantized.

    Raises:
        NanError: if a weight is or becomes NaN.
    """
    updated, codes, errors = list(ws), list[int](), list[Datum]()
    for j, (scale, zero) in enumerate(zip(scales, zero_points, strict=True)):
        (code,) = quantize_affine(
            [updated[j]], fmt, scale, working, zero_point=zero, arithmetic=arithmetic, int_range=int_range
        )
        (value,) = dequantize([number(code - zero)], scale, working, working)
        error = round_to(divide(_less(updated[j], value, working), upper[j][j]), working)
        for k in range(j + 1, len(updated)):
            step = round_to(multiply(upper[j][k], error), working)
            updated[k] = _less(updated[k], step, working)
        codes.append(code)
        errors.append(error)
    return codes, errors, updated


def _less(a: Datum, b: Datum, working: FloatFormat) -> Datum:
    return round_to(add(a, replace(b, is_negative=not b.is_negative)), working)
