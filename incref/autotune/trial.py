"""What was tried and what came of it."""

from dataclasses import asdict, dataclass
from typing import cast

from typing_extensions import Self

from incref.checkpoints.size import ModelSize
from incref.config.resolve import QuantConfig
from incref.qtensor.format_json import Json

__all__ = ["Measurement", "Trial", "rank"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of a model.

    Attributes:
        values: of the metrics; none if the trial failed.
        size: of the quantized model; None if there was none.
        quantize_seconds: for quantization, with calibration where that was not done before.
        eval_seconds: for all metrics.
        failure: the type and message of the exception that ended the trial, or "".
    """

    values: tuple[float, ...] = ()
    size: ModelSize | None = None
    quantize_seconds: float = 0.0
    eval_seconds: float = 0.0
    failure: str = ""

    def to_json(self) -> dict[str, Json]:
        """Describe the measurement so that `from_json` gives an equal one."""
        return {**asdict(self), "values": list(self.values)}

    @classmethod
    def from_json(cls, described: dict[str, Json]) -> Self:
        """Undo `to_json`."""
        size = described["size"]
        return cls(
            values=tuple(cast("list[float]", described["values"])),
            size=None if size is None else ModelSize(**cast("dict[str, int]", size)),
            quantize_seconds=cast("float", described["quantize_seconds"]),
            eval_seconds=cast("float", described["eval_seconds"]),
            failure=cast("str", described["failure"]),
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        number: from 1.
        config: a configuration that `quantize` takes.
        measured: what came of it.
        score: what that is worth by the objective; None if the trial failed.
        is_met: whether that is good enough.
        is_recalled: whether the measurement is one of an earlier run, from the journal.
    """

    number: int
    config: QuantConfig
    measured: Measurement
    score: float | None
    is_met: bool
    is_recalled: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """Of the metrics; none if the trial failed."""
        return self.measured.values

    @property
    def size(self) -> ModelSize | None:
        """Of the quantized model; None if there was none."""
        return self.measured.size

    @property
    def seconds(self) -> float:
        """For quantization and all metrics."""
        return self.measured.quantize_seconds + self.measured.eval_seconds

    @property
    def failure(self) -> str:
        """The type and message of the exception that ended the trial, or ""."""
        return self.measured.failure


def rank(trial: Trial) -> tuple[bool, float, float]:
    """What trials that didn't fail are compared by, the greatest being the best.

    Those that are good enough come first, the smallest of them best; the others go by score.
    """
    assert trial.score is not None
    assert trial.size is not None
    return (True, -trial.size.bytes, trial.score) if trial.is_met else (False, trial.score, 0.0)
