"""Which elements of a tensor share a scale."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PER_TENSOR", "PER_TOKEN", "Granularity", "per_block", "per_channel", "per_group"]


@dataclass(frozen=True)
class Granularity:
    """Elements that share a scale form a block.

    Attributes:
        block: extent of a block along the last `len(block)` dimensions; -1 is the whole dimension.
        lead: its extent along each dimension before those: 1 or -1.

    The last block along a dimension is smaller where the extent does not divide the dimension.
    """

    block: tuple[int, ...]
    lead: int = 1

    def __post_init__(self) -> None:
        """Refuse extents that no tensor has."""
        if any(extent != -1 and extent < 1 for extent in self.block):
            raise ValueError(f"extents of a block must be positive or -1 (the whole dimension), got {self.block}")
        if self.lead not in (1, -1):
            raise ValueError(f"lead must be 1 or -1, got {self.lead}")

    def __str__(self) -> str:
        """What shares a scale, in words."""
        if not self.block and self.lead == -1:
            return "one scale"
        if self.block and self.block[-1] == -1 and set(self.block[:-1]) <= {1}:
            return "one scale a row"
        if len(self.block) == 1:
            return f"groups of {self.block[0]}"
        extents = " x ".join("all" if extent == -1 else str(extent) for extent in self.block)
        return f"blocks of {extents}"

    def block_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Extent of a block along every dimension of a tensor of `shape`.

        >>> per_group(128).block_shape((4096, 300))
        (1, 128)
        """
        if len(self.block) > len(shape):
            raise ValueError(
                f"blocks of {len(self.block)} dimensions need a tensor of as many, got shape {tuple(shape)}"
            )
        extents = (self.lead,) * (len(shape) - len(self.block)) + self.block
        return tuple(
            max(1, size if extent == -1 else min(extent, size)) for extent, size in zip(extents, shape, strict=True)
        )

    def transposed(self) -> "Granularity":
        """Which elements of the transpose share a scale: the last two dimensions are exchanged.

        >>> per_group(128).transposed() == per_group(128, axis=-2)
        True
        """
        if not self.block:
            return self
        before = self.block[-2] if len(self.block) > 1 else self.lead
        return Granularity((*self.block[:-2], self.block[-1], before), self.lead)

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a tensor of `shape`: the number of blocks along each dimension; `()` for `PER_TENSOR`.

        >>> per_group(128).scale_shape((4096, 300))
        (4096, 3)
        """
        if self == PER_TENSOR:
            return ()
        return tuple(-(-size // extent) for size, extent in zip(shape, self.block_shape(shape), strict=True))


PER_TENSOR = Granularity((), lead=-1)
"""One scale for all; its shape is `()`."""

PER_TOKEN = Granularity((-1,))
"""One scale for each vector along the last dimension."""


def per_channel(axis: int = 0, *, ndim: int = 2) -> Granularity:
    """One scale for each index along `axis` of a tensor of `ndim` dimensions.

    >>> per_channel().scale_shape((8, 64))
    (8, 1)
    """
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis must be {-ndim} to {ndim - 1} for {ndim} dimensions, got {axis}")
    return Granularity(tuple(1 if d == axis % ndim else -1 for d in range(ndim)))


def per_group(group_size: int, axis: int = -1) -> Granularity:
    """One scale for each `group_size` consecutive elements along `axis`, counted from the end (-1 is the last)."""
    if axis >= 0:
        raise ValueError(f"axis counts from the end and must be negative, got {axis}")
    return Granularity((group_size, *(1,) * (-axis - 1)))


def per_block(extents: tuple[int, ...]) -> Granularity:
    """One scale for each block of `extents` along the last dimensions, such as (128, 128) or (1, 128)."""
    return Granularity(tuple(extents))
