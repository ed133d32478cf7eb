"""How the scales of a tensor are quantized themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from incref.formats import IntFormat
from incref.qtensor.format_json import Json, format_from_json, format_to_json

__all__ = ["ScaleRun", "ScaleSpec"]


class ScaleRun(Enum):
    """Which scales follow each other, so that `group_size` of them in a row share a step."""

    ROWS = "rows"
    """All, row by row: the last dimension changes fastest."""
    COLUMNS = "columns"
    """Those of a matrix of scales that stand in one column; every column starts a group."""


@dataclass(frozen=True, kw_only=True)
class ScaleSpec:
    """Scales as integers with a step, and a least value if they are not symmetric.

    `scale = code * step`, or `scale = code * step + low`. Symmetric: `step = amax / max_code`, codes are rounded to
    nearest even, and one that would be 0 is 1 or -1 by the sign of the scale. Otherwise `low` is the least scale of its
    group, and `step = (amax - low) / max_code`.

    Attributes:
        fmt: signed if and only if `symmetric`.
        symmetric: whether there is no `low`.
        group_size: how many scales share a step.
        run: which scales follow each other.

    Raises:
        ValueError: for a format of the wrong sign, or a group that is not positive.
    """

    fmt: IntFormat
    symmetric: bool = True
    group_size: int = 256
    run: ScaleRun = ScaleRun.ROWS

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.fmt.is_signed != self.symmetric or self.fmt.bits > 8:
            kind = "signed" if self.symmetric else "unsigned"
            raise ValueError(f"symmetric={self.symmetric} needs {kind} integers of at most 8 bits, got {self.fmt.name}")
        if self.group_size < 1:
            raise ValueError(f"at least one scale shares a step, got a group_size of {self.group_size}")

    def step_shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """Shape of the steps of scales of `shape`: runs, and groups in each.

        Raises:
            ValueError: for columns of something that is no matrix.
        """
        runs, length = self.matrix_shape(shape)
        return runs, -(-length // self.group_size)

    def matrix_shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """Shape of the matrix with a row for each run of scales of `shape`.

        Raises:
            ValueError: for columns of something that is no matrix.
        """
        total = 1
        for size in shape:
            total *= size
        if self.run is ScaleRun.ROWS:
            return 1, total
        if len(shape) != 2:
            raise ValueError(f"scales that run along columns are a matrix, got shape {tuple(shape)}")
        return shape[1], shape[0]

    def to_json(self) -> dict[str, Json]:
        """Describe it so that `from_json` gives an equal one."""
        return {
            "fmt": format_to_json(self.fmt),
            "symmetric": self.symmetric,
            "group_size": self.group_size,
            "run": self.run.value,
        }

    @classmethod
    def from_json(cls, described: Json) -> "ScaleSpec":
        """Undo `to_json`.

        Raises:
            ValueError: if `described` is not what `to_json` gives.
        """
        if isinstance(described, dict) and sorted(described) == ["fmt", "group_size", "run", "symmetric"]:
            fmt, size, symmetric = format_from_json(described["fmt"]), described["group_size"], described["symmetric"]
            if isinstance(fmt, IntFormat) and type(size) is int and isinstance(symmetric, bool):
                return cls(fmt=fmt, symmetric=symmetric, group_size=size, run=ScaleRun(described["run"]))
        raise ValueError(f"scales can't be quantized as {described!r} says")
