"""The upper half of a product of two integers."""

from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.intrinsics.steps import steps

__all__ = ["high_half"]


def high_half(bits: int, extend: str) -> Simple:
    """Multiply integers of `bits` bits, extended by `extend`, and keep the upper half."""
    return steps(
        f"{extend} {{a}} to i{2 * bits}",
        f"{extend} {{b}} to i{2 * bits}",
        f"mul i{2 * bits} {{0}}, {{1}}",
        f"lshr i{2 * bits} {{2}}, {bits}",
        f"trunc i{2 * bits} {{3}} to i{bits}",
    )
