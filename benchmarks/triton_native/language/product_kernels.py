"""Kernels that multiply matrices."""

import triton
import triton.language as tl

__all__ = ["dot_kernel", "dot_scaled_kernel"]


@triton.jit
def dot_kernel(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, OUT: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply two matrices, and add the product to itself once."""
    x = tl.load(a + tl.arange(0, M)[:, None] * K + tl.arange(0, K)[None, :])
    y = tl.load(b + tl.arange(0, K)[:, None] * N + tl.arange(0, N)[None, :])
    acc = tl.dot(x, y, out_dtype=OUT, input_precision=PRECISION)
    acc = tl.dot(x, y, acc, out_dtype=OUT, input_precision=PRECISION)
    tl.store(c + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :], acc)


@triton.jit
def dot_scaled_kernel(
    a, sa, b, sb, c, S: tl.constexpr, A: tl.constexpr, B: tl.constexpr,
    A_PER_BYTE: tl.constexpr, B_PER_BYTE: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Multiply two square matrices with a scale for each `GROUP` elements; `b` is stored by column."""
    rows, groups = tl.arange(0, S), tl.arange(0, S // GROUP)
    x = tl.load(a + rows[:, None] * (S // A_PER_BYTE) + tl.arange(0, S // A_PER_BYTE)[None, :])
    y = tl.load(b + rows[None, :] * (S // B_PER_BYTE) + tl.arange(0, S // B_PER_BYTE)[:, None])
    s = None
    if sa is not None:
        s = tl.load(sa + rows[:, None] * (S // GROUP) + groups[None, :])
    t = tl.load(sb + rows[:, None] * (S // GROUP) + groups[None, :])
    tl.store(c + rows[:, None] * S + rows[None, :], tl.dot_scaled(x, s, A, y, t, B))
