"""How much of a tensor one program of a kernel takes."""

from dataclasses import dataclass, replace

import torch

from incref_kernels.triton.available import is_interpreting
from incref_kernels.triton.targets import target_of

__all__ = ["Tile", "choose"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A choice of sizes; results don't depend on it.

    Attributes:
        elements: of one program, a power of two.
        num_warps: that share them.
    """

    elements: int
    num_warps: int = 4


_INTERPRETED = 1 << 16
_COMPILED_FOR_CPU = 512
_IS_INTERPRETING = is_interpreting()


def choose(tile: Tile, device: torch.device) -> Tile:
    """Give `tile`; a large one for the interpreter, where each program costs milliseconds, a small one for the CPU.

    There every element of a lane is code of its own, and most kernels take longer to be compiled than to run.
    """
    if _IS_INTERPRETING:
        return replace(tile, elements=_INTERPRETED)
    if target_of(device).kind == "cpu":
        return replace(tile, elements=min(tile.elements, _COMPILED_FOR_CPU))
    return tile
