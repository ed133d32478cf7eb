"""Sizes of launches; Triton's own functions of these names cost the host microseconds a call."""

__all__ = ["cdiv", "next_power_of_2"]


def cdiv(size: int, extent: int) -> int:
    """How many parts of `extent` hold `size`."""
    return -(-size // extent)


def next_power_of_2(size: int) -> int:
    """The least power of two that is not below `size`, which is at least 1."""
    return 1 << (size - 1).bit_length()
