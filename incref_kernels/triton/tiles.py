"""How much of a tensor one program of a kernel takes."""

from dataclasses import dataclass, replace

from incref_kernels.triton.available import is_interpreting

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
_IS_INTERPRETING = is_interpreting()


def choose(tile: Tile) -> Tile:
    """Give `tile`, or a large one for the interpreter, where each program costs milliseconds."""
    return replace(tile, elements=_INTERPRETED) if _IS_INTERPRETING else tile
