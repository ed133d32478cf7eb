"""What an evaluation found, and what a scheme costs against the float model."""

import math
from dataclasses import asdict, dataclass, fields

from incref.checkpoints.size import ModelSize
from incref.errors import CheckpointError
from incref.qtensor.format_json import Json

__all__ = ["FLOAT32", "Evaluation", "Loss", "loss_against"]

FLOAT32 = "float32"
"""Name of the evaluation that the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model, as it is or quantized, over some windows of text.

    Attributes:
        scheme: name of a row of `SCHEMES`, or `FLOAT32`.
        nll: mean negative log-likelihood of every window, in nats a token; see `window_nll`.
        size: what the tensors of the model take.
        file_bytes: what its safetensors files take, as they lie on the disk.
        quantize_seconds: time to quantize the weights.
        eval_seconds: time to go through the windows.
    """

    scheme: str
    nll: tuple[float, ...]
    size: ModelSize
    file_bytes: int
    quantize_seconds: float
    eval_seconds: float

    @property
    def mean_nll(self) -> float:
        """Mean over the windows, in nats a token."""
        return math.fsum(self.nll) / len(self.nll)

    @property
    def perplexity(self) -> float:
        """`exp(mean_nll)`; Inf where binary64 has no such number."""
        try:
            return math.exp(self.mean_nll)
        except OverflowError:
            return math.inf

    def to_json(self) -> dict[str, Json]:
        """Describe the evaluation so that `from_json` gives an equal one."""
        return asdict(self) | {"nll": list(self.nll)}

    @classmethod
    def from_json(cls, described: dict[str, Json]) -> "Evaluation":
        """Undo `to_json`.

        Raises:
            CheckpointError: if `described` is not what `to_json` gives.
        """
        size, nll = described.get("size"), described.get("nll")
        names = {field.name for field in fields(cls)}
        if set(described) != names or not isinstance(size, dict) or not isinstance(nll, list):
            raise CheckpointError(f"an evaluation has the fields {', '.join(sorted(names))}; got {described!r}")
        values: dict[str, object] = {**described, "size": ModelSize(**size), "nll": tuple(nll)}  # type: ignore[arg-type]
        return cls(**values)  # type: ignore[arg-type]  # to_json gave them their types


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a scheme costs, in terms that hold for other texts too.

    Attributes:
        delta_nll: how much the mean negative log-likelihood rises, in nats a token.
        standard_error: of `delta_nll`, from the differences window by window; NaN for a single window. The windows are
            the same for both models, so this is far smaller than the error of either perplexity.
    """

    delta_nll: float
    standard_error: float

    @property
    def ratio(self) -> float:
        """`exp(delta_nll)`: the perplexity against that of the float model."""
        try:
            return math.exp(self.delta_nll)
        except OverflowError:
            return math.inf


def loss_against(baseline: Evaluation, other: Evaluation) -> Loss:
    """Compare two evaluations of the same windows.

    Returns:
        For the differences `d_w = other.nll[w] - baseline.nll[w]` of n windows: their mean, and
        `sqrt(sum((d_w - mean)**2) / (n * (n - 1)))`.

    Raises:
        ValueError: if they have different numbers of windows.
    """
    if len(baseline.nll) != len(other.nll):
        raise ValueError(f"both evaluations must be of the same windows, got {len(baseline.nll)} and {len(other.nll)}")
    differences = [b - a for a, b in zip(baseline.nll, other.nll, strict=True)]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return Loss(delta_nll=mean, standard_error=math.nan)
    variance = math.fsum((d - mean) ** 2 for d in differences) / (n - 1)
    return Loss(delta_nll=mean, standard_error=math.sqrt(variance / n))
