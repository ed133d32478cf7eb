"""What this processor multiplies fast, and exactly."""

from functools import cache

import torch

from incref.numerics.constant import constant_in_graphs

__all__ = ["has_fast_bfloat16", "has_look_up", "instructions", "multiplies_int8_exactly"]

# Enough products for a vector of any width, and for what is left over.
_LENGTH = 200


@cache
def instructions() -> tuple[str, ...]:
    """What PyTorch knows that speeds up vectors and products here: "AVX512", "VNNI", "AVX512-BF16", "AMX"."""
    # Public names for what a processor can do are missing from PyTorch.
    names = {
        "VNNI": "_is_vnni_supported",
        "AVX512-BF16": "_is_avx512_bf16_supported",
        "AMX": "_is_amx_tile_supported",
    }
    asked = {name: getattr(torch.cpu, function, None) for name, function in names.items()}
    return (
        torch.backends.cpu.get_cpu_capability(),
        *(name for name, ask in asked.items() if ask is not None and ask()),
    )


def has_fast_bfloat16() -> bool:
    """Whether products of bfloat16 are done by instructions for them; elsewhere they are slower than float32's."""
    return not {"AMX", "AVX512-BF16"}.isdisjoint(instructions())


@cache
def has_look_up() -> bool:
    """Whether one instruction looks up sixteen values among sixteen: one of AVX-512."""
    # What compiles asks the processor itself, and may be missing.
    from incref_kernels.llvm import engine  # noqa: PLC0415

    return engine.host_has("avx512f")


@constant_in_graphs
def multiplies_int8_exactly() -> bool:
    """Whether products of int8 have instructions that add them in 32 bits.

    Where there are none, libraries add pairs of products in 16 bits, which may saturate, or multiply one by one.
    """
    return _multiplies_int8_exactly()


@cache
def _multiplies_int8_exactly() -> bool:
    if {"AMX", "VNNI"}.isdisjoint(instructions()):
        return False
    x = torch.full((17, _LENGTH), -128, dtype=torch.int8)
    w = torch.full((16, _LENGTH), -128, dtype=torch.int8)
    return bool((torch._int_mm(x, w.T) == 128 * 128 * _LENGTH).all())  # noqa: SLF001  # the only name it has
