"""How much of a tensor one program of a kernel takes."""

from dataclasses import dataclass, replace

from torch import Tensor

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
# With the tuned tile these make as many programs as are compiled for the fastest code, see `launch`.
_MANY_ELEMENTS = 1 << 20
_IS_INTERPRETING = is_interpreting()


def choose(tile: Tile, x: Tensor) -> Tile:
    """Give `tile`; for the interpreter, where each program costs milliseconds, a large one.

    For few elements on the CPU a small one: every element of a lane is code of its own there, which takes time to be
    compiled. For many it is the tuned one, which runs twice as fast as that.

    Args:
        tile: the tuned one.
        x: where it lies, and how many elements are to be worked on.
    """
    if _IS_INTERPRETING:
        return replace(tile, elements=_INTERPRETED)
    if target_of(x.device).kind == "cpu" and x.numel() < _MANY_ELEMENTS:
        return replace(tile, elements=min(tile.elements, _COMPILED_FOR_CPU))
    return tile
