"""Kernels that read and write memory in every way that the language has."""

import triton
import triton.language as tl

__all__ = [
    "atomic_add",
    "atomic_and",
    "atomic_kernel",
    "atomic_load",
    "atomic_max",
    "atomic_min",
    "atomic_or",
    "atomic_store",
    "atomic_xor",
    "block_pointer_kernel",
    "compare_and_swap_kernel",
    "descriptor_kernel",
    "device_descriptor_kernel",
    "exchange_kernel",
    "masked_kernel",
    "print_kernel",
]


@triton.jit
def masked_kernel(x, z, n, N: tl.constexpr):
    """Copy the first `n` elements and fill the rest with 1; every third element is left alone."""
    at = tl.arange(0, N)
    v = tl.load(x + at, mask=at < n, other=1)
    tl.store(z + at, v, mask=at % 3 != 0)


@triton.jit
def block_pointer_kernel(x, z, rows, columns, M: tl.constexpr, N: tl.constexpr):
    """Copy a ragged tile; what is outside of it reads as 0."""
    source = tl.make_block_ptr(x, (rows, columns), (columns, 1), (0, 0), (M, N), (1, 0))
    target = tl.make_block_ptr(z, (M, 2 * N), (2 * N, 1), (0, 0), (M, N), (1, 0))
    for _ in range(2):
        tl.store(target, tl.load(source, boundary_check=(0, 1), padding_option="zero"))
        source = tl.advance(source, (0, N))
        target = tl.advance(target, (0, N))


@triton.jit
def descriptor_kernel(source, target, N: tl.constexpr):
    """Copy a ragged tile from one descriptor to another, which drops what is outside of it."""
    for step in range(2):
        target.store([0, step * N], source.load([0, step * N]))


@triton.jit
def device_descriptor_kernel(x, z, rows, columns, M: tl.constexpr, N: tl.constexpr):
    """Copy a ragged tile by descriptors that the kernel makes."""
    source = tl.make_tensor_descriptor(x, shape=[rows, columns], strides=[columns, 1], block_shape=[M, N])
    target = tl.make_tensor_descriptor(z, shape=[M, 2 * N], strides=[2 * N, 1], block_shape=[M, N])
    for step in range(2):
        target.store([0, step * N], source.load([0, step * N]))


@triton.jit
def atomic_kernel(x, z, old, N: tl.constexpr, FN: tl.constexpr):
    """Combine each element with that of another kernel's program; the values before are stored too."""
    at = tl.arange(0, N)
    v = tl.load(x + tl.program_id(0) * N + at)
    tl.store(old + tl.program_id(0) * N + at, FN(z + at, v))


@triton.jit
def exchange_kernel(x, z, old, N: tl.constexpr):
    """Put each element in the place of another."""
    at = tl.arange(0, N)
    tl.store(old + at, tl.atomic_xchg(z + at, tl.load(x + at)))


@triton.jit
def compare_and_swap_kernel(x, y, z, old, N: tl.constexpr):
    """Put `x` in the place of what equals `y`."""
    at = tl.arange(0, N)
    tl.store(old + at, tl.atomic_cas(z + at, tl.load(y + at), tl.load(x + at)))


@triton.jit
def atomic_add(z, v):
    return tl.atomic_add(z, v)


@triton.jit
def atomic_max(z, v):
    return tl.atomic_max(z, v)


@triton.jit
def atomic_min(z, v):
    return tl.atomic_min(z, v)


@triton.jit
def atomic_and(z, v):
    return tl.atomic_and(z, v)


@triton.jit
def atomic_or(z, v):
    return tl.atomic_or(z, v)


@triton.jit
def atomic_xor(z, v):
    return tl.atomic_xor(z, v)


@triton.jit
def atomic_load(z, v):
    return tl.atomic_load(z) + v * 0


@triton.jit
def atomic_store(z, v):
    tl.atomic_store(z, v)
    return v


@triton.jit
def print_kernel(x, z, N: tl.constexpr):
    """Copy, and print the first element."""
    at = tl.arange(0, N)
    v = tl.load(x + at)
    tl.device_assert(at < N)
    tl.device_print("first", v, hex=False)
    tl.store(z + at, v)
