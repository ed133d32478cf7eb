"""Small kernels, one for each row of the table."""

import triton
import triton.language as tl

__all__ = [
    "binary_kernel",
    "cast_kernel",
    "dot_kernel",
    "dot_scaled_kernel",
    "max_kernel",
    "randint_kernel",
    "sum_kernel",
]


@triton.jit
def cast_kernel(x, y, N: tl.constexpr, CODES: tl.constexpr):
    """Convert `x` to the type of `y`; to FP8 as codes."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + at)
    if CODES is None:
        tl.store(y + at, v.to(y.dtype.element_ty))
    else:
        tl.store(y + at, v.to(CODES).to(tl.uint8, bitcast=True))


@triton.jit
def binary_kernel(x, y, z, N: tl.constexpr, OP: tl.constexpr):
    """Combine `x` and `y` element by element."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    a, b = tl.load(x + at), tl.load(y + at)
    if OP == "add":
        r = a + b
    elif OP == "mul":
        r = a * b
    elif OP == "where":
        r = tl.where(a > b, a, b)
    elif OP == "fma":
        r = tl.fma(a, b, a)
    elif OP == "div_rn":
        r = tl.math.div_rn(a, b)
    else:
        r = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    tl.store(z + at, r)


@triton.jit
def sum_kernel(x, y, N: tl.constexpr):
    """Add the elements of each row."""
    v = tl.load(x + tl.program_id(0) * N + tl.arange(0, N))
    tl.store(y + tl.program_id(0), tl.sum(v, 0))


@triton.jit
def max_kernel(x, y, N: tl.constexpr):
    """Take the greatest element of each row."""
    v = tl.load(x + tl.program_id(0) * N + tl.arange(0, N))
    tl.store(y + tl.program_id(0), tl.max(v, 0))


@triton.jit
def randint_kernel(y, seed, N: tl.constexpr):
    """Draw random numbers by Philox."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.randint(seed, at))


@triton.jit
def dot_kernel(a, b, c, S: tl.constexpr, OUT: tl.constexpr):
    """Multiply two square matrices."""
    at = tl.arange(0, S)[:, None] * S + tl.arange(0, S)[None, :]
    acc = tl.dot(tl.load(a + at), tl.load(b + at), input_precision="ieee", out_dtype=OUT)
    tl.store(c + at, acc)


@triton.jit
def dot_scaled_kernel(a, sa, b, sb, c, S: tl.constexpr, F: tl.constexpr, PER_BYTE: tl.constexpr):
    """Multiply two square matrices of MX blocks; `b` is stored by column."""
    rows, depth, blocks = tl.arange(0, S), tl.arange(0, S // PER_BYTE), tl.arange(0, S // 32)
    x = tl.load(a + rows[:, None] * (S // PER_BYTE) + depth[None, :])
    y = tl.load(b + rows[None, :] * (S // PER_BYTE) + depth[:, None])
    s = tl.load(sa + rows[:, None] * (S // 32) + blocks[None, :])
    t = tl.load(sb + rows[:, None] * (S // 32) + blocks[None, :])
    tl.store(c + rows[:, None] * S + rows[None, :], tl.dot_scaled(x, s, F, y, t, F))
