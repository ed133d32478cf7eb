"""How the codes of a weight are found: by rounding alone, or with the help of calibration data; or not at all."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["GPTQ", "RTN", "Cast", "ColumnOrder", "DeadColumns", "GroupScales", "Method"]


class ColumnOrder(Enum):
    """The order in which GPTQ quantizes the columns of a weight.

    `d` is the diagonal of the Hessian, before damping; columns of equal `d` keep their order.
    """

    GIVEN = "given"
    """From the first to the last."""
    DESCENDING = "descending"
    """By descending `d` (act_order). Groups are formed of columns that follow each other in this order, unless their
    scales are those of the original weights."""
    WITHIN_GROUPS = "within_groups"
    """Groups of neighbours by descending largest `d`, and the columns of each by descending `d` (hybrid order)."""


class GroupScales(Enum):
    """Which weights the scales of a group are computed from.

    Until its turn comes, a column takes up the errors of those before it.
    """

    CURRENT = "current"
    """Those that the group has when its first column is reached: the errors of all columns before it included."""
    BLOCK = "block"
    """Those that the group has when the block of `block_size` columns begins in which its first column lies."""
    ORIGINAL = "original"
    """The weights before anything was quantized (static groups); a group is columns that are neighbours in the weight,
    whatever the order."""


class DeadColumns(Enum):
    """What becomes of the columns whose input was zero in all calibration data."""

    ZERO = "zero"
    """They are set to zero, and count no more for the scales of their group."""
    KEEP = "keep"
    """They are rounded to nearest."""


@dataclass(frozen=True, kw_only=True)
class RTN:
    """Round every weight to nearest, without looking at data.

    Attributes:
        use_mse_search: whether the range of the weights is shrunk by the one of 40 ratios, `1 - i / 200`, that gives
            the least squared error over the layer.
    """

    use_mse_search: bool = False


@dataclass(frozen=True, kw_only=True)
class GPTQ:
    """Quantize column by column, and let the columns to come make up for the error (arXiv 2210.17323).

    Attributes:
        use_mse_search: whether the range of every group is shrunk, row by row, by the one of 80 ratios, `1 - i / 100`,
            that gives the least sum of `|q - w| ** 2.4`.
        percdamp: what is added to the diagonal of the Hessian, as a fraction of its mean. It is raised tenfold as often
            as a factorization fails.
        block_size: how many columns are quantized before the rest of the weight is updated.
        order: of the columns.
        group_scales: which weights scales are computed from.
        dead_columns: what becomes of columns without input.
        true_sequential: whether layers of a block of the model that feed others are quantized before those are
            calibrated.
        refine_sweeps: how often every column is visited again by coordinate descent, which can only lower the error
            that calibration data sees (arXiv 2309.01885).

    Raises:
        ValueError: for a negative `percdamp` or `refine_sweeps`, a `block_size` below 1, or the order WITHIN_GROUPS
            with scales of the original weights.
    """

    use_mse_search: bool = False
    percdamp: float = 0.01
    block_size: int = 128
    order: ColumnOrder = ColumnOrder.GIVEN
    group_scales: GroupScales = GroupScales.CURRENT
    dead_columns: DeadColumns = DeadColumns.ZERO
    true_sequential: bool = False
    refine_sweeps: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.refine_sweeps < 0:
            raise ValueError(f"refine_sweeps must not be negative, got {self.refine_sweeps}")
        if not 0 <= self.percdamp < float("inf"):
            raise ValueError(f"percdamp must be finite and not negative, got {self.percdamp}")
        if self.block_size < 1:
            raise ValueError(f"block_size must be positive, got {self.block_size}")


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Keep the layer, and let it compute in another dtype: float16 or bfloat16, by the format of the weight.

    Weight and bias are rounded to it to nearest, ties to even, and so is the input in every call; the arithmetic is
    PyTorch's in that dtype, and the output returns to the dtype of the input.
    """


Method = RTN | GPTQ | Cast
"""How the codes of a weight are found."""
