"""Kernels that apply a function, given as a constant, to a block."""

import triton
import triton.language as tl

__all__ = [
    "binary_kernel",
    "cast_kernel",
    "constant_kernel",
    "ternary_kernel",
    "tile_kernel",
    "unary_kernel",
    "vector_kernel",
]


@triton.jit
def cast_kernel(x, z, N: tl.constexpr, TO: tl.constexpr):
    """Convert to the type `TO`."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(z + at, tl.load(x + at).to(TO))


@triton.jit
def unary_kernel(x, z, N: tl.constexpr, FN: tl.constexpr):
    """Apply `FN` element by element."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(z + at, FN(tl.load(x + at)))


@triton.jit
def binary_kernel(x, y, z, N: tl.constexpr, FN: tl.constexpr):
    """Apply `FN` to two blocks."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(z + at, FN(tl.load(x + at), tl.load(y + at)))


@triton.jit
def ternary_kernel(x, y, w, z, N: tl.constexpr, FN: tl.constexpr):
    """Apply `FN` to three blocks."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(z + at, FN(tl.load(x + at), tl.load(y + at), tl.load(w + at)))


@triton.jit
def vector_kernel(x, z, N: tl.constexpr, K: tl.constexpr, FN: tl.constexpr):
    """Apply `FN` to a block of one axis; the result has `K` elements."""
    tl.store(z + tl.arange(0, K), FN(tl.load(x + tl.arange(0, N))))


@triton.jit
def tile_kernel(x, z, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, FN: tl.constexpr):
    """Apply `FN` to a block of two axes; the `K` elements of the result are stored in their order."""
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tl.store(z + tl.arange(0, K), tl.reshape(FN(v), (K,)))


@triton.jit
def constant_kernel(z, N: tl.constexpr, FN: tl.constexpr):
    """Store what `FN` makes of the numbers from 0 on."""
    tl.store(z + tl.arange(0, N), FN(tl.arange(0, N)))
