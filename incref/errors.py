"""The exceptions that incref raises beside `ValueError` and `TypeError`, and its warnings.

`ValueError` is raised for a value that no call of that kind can take, `TypeError` for a wrong type. The types here say
more than that, so that a caller can tell them apart.
"""

__all__ = [
    "CalibrationWarning",
    "CheckpointError",
    "FlushDenormalError",
    "IncrefError",
    "LayerError",
    "LoweringWarning",
    "NanError",
    "TuningError",
    "UnsupportedError",
]


class IncrefError(Exception):
    """Base of the exceptions below."""


class CalibrationWarning(UserWarning):
    """Calibration data left something open, and a documented choice was made; the message names the layer."""


class LoweringWarning(UserWarning):
    """What a compiler would make of a model is not right here, and something slower was made; the message says why."""


class UnsupportedError(IncrefError):
    """A backend can't do what was asked; the message gives its reason."""


class NanError(IncrefError, ValueError):
    """A NaN or Inf reached a place that has no code for it, and the rule in force is to refuse it."""


class FlushDenormalError(IncrefError, RuntimeError):
    """The processor flushes subnormal floats to zero, so the result could be wrong."""


class LayerError(IncrefError, ValueError):
    """A layer does not fit the scheme that a configuration gives it; the message names the layer."""


class TuningError(IncrefError, RuntimeError):
    """No trial of a search gave a model; the message says what went wrong in each."""


class CheckpointError(IncrefError, ValueError):
    """A file or directory is missing, truncated, or not what its description says."""
