"""The kernels that are measured."""

import triton
import triton.language as tl

__all__ = ["encode_e4m3_kernel"]


@triton.jit
def encode_e4m3_kernel(x, codes, first, N: tl.constexpr):
    """Encode float32 patterns as E4M3 in integer arithmetic: nearest even, saturating, NaN kept.

    Args:
        x: patterns as int32, or None for the numbers from `first` on.
        codes: uint8.
        first: the first pattern, int64.
        N: patterns a program.
    """
    at = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    if x is None:
        bits = (at + first).to(tl.int32)
    else:
        bits = tl.load(x + at)
    sign = (bits >> 24) & 0x80
    magnitude = bits & 0x7FFFFFFF
    # Normal results: drop 20 bits of the mantissa, halfway cases to even, and move the exponent's bias from 127 to 7.
    odd = (magnitude >> 20) & 1
    normal = ((magnitude + 0x7FFFF + odd) >> 20) - (120 << 3)
    # Subnormal results are multiples of 2**-9: shift the whole mantissa to that unit, and round there.
    shift = tl.minimum(141 - (magnitude >> 23), 31)
    mantissa = (magnitude & 0x7FFFFF) | 0x800000
    shift = tl.maximum(shift, 1)
    floor = mantissa >> shift
    rest = mantissa & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    up = (rest > half) | ((rest == half) & ((floor & 1) == 1))
    subnormal = floor + up.to(tl.int32)
    code = tl.where(magnitude < (121 << 23), subnormal, normal)
    code = tl.minimum(code, 0x7E)
    code = tl.where(magnitude > 0x7F800000, 0x7F, code)
    tl.store(codes + at, (code | sign).to(tl.uint8))
