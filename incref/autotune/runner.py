"""Makes quantized copies of one model, and measures them."""

import copy
import time
from collections.abc import Callable

from torch import nn

from incref.autotune.metric import Metric, evaluate
from incref.autotune.trial import Measurement
from incref.calibration.recorder import CallRecorder
from incref.checkpoints.size import measure_size
from incref.config.resolve import QuantConfig, plan
from incref.workflow.arguments import Arguments, as_arguments
from incref.workflow.convert import convert
from incref.workflow.layers import needs_calibration
from incref.workflow.record import record_calls

__all__ = ["Runner"]


class Runner:
    """Quantizes and evaluates copies of a float model, which is not changed."""

    def __init__(
        self,
        model: nn.Module,
        metrics: tuple[Metric, ...],
        eval_args: Arguments,
        run_fn: Callable[..., object] | None,
        run_args: Arguments,
    ) -> None:
        """Prepare to measure copies of `model`."""
        self._model = model
        self._metrics = metrics
        self._eval_args = eval_args
        self._run_fn = run_fn
        self._run_args = run_args
        self._calls: CallRecorder | None = None

    def measure_float(self) -> Measurement:
        """Measure the float model; what its evaluation raises is raised."""
        return self._measure(copy.deepcopy(self._model), 0.0)

    def measure(self, config: QuantConfig) -> tuple[Measurement, nn.Module | None]:
        """Quantize and evaluate a copy.

        Returns:
            What was measured, and the copy. If anything raised an exception, that is the failure of the measurement,
            and there is no copy.
        """
        start = time.monotonic()
        try:
            quantized = self.quantize(config)
            return self._measure(quantized, time.monotonic() - start), quantized
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in one trial is the result of that trial
            return Measurement(failure=f"{type(error).__name__}: {error}"), None

    def quantize(self, config: QuantConfig) -> nn.Module:
        """Make a quantized copy.

        Calls of the calibration function are recorded when they are first needed, and used for every copy.

        Raises:
            ValueError: if that needs calibration data, and there is no function for it.
        """
        calls = None
        if any(needs_calibration(scheme) for scheme in plan(self._model, config).changes.values()):
            calls = self._recorded_calls()
        return convert(self._model, config, inplace=False, calls=calls)

    def feed(self, model: nn.Module) -> None:
        """Call `model` with calibration data, or evaluate it if there is none."""
        if self._run_fn is not None:
            self._run_fn(model, *as_arguments(self._run_args))
            return
        for metric in self._metrics:
            metric.eval_fn(model, *as_arguments(self._eval_args))

    def _measure(self, model: nn.Module, quantize_seconds: float) -> Measurement:
        size, start = measure_size(model), time.monotonic()
        values = tuple(evaluate(metric, model, self._eval_args) for metric in self._metrics)
        return Measurement(
            values=values, size=size, quantize_seconds=quantize_seconds, eval_seconds=time.monotonic() - start
        )

    def _recorded_calls(self) -> CallRecorder:
        if self._run_fn is None:
            raise ValueError("the configuration needs calibration data; pass run_fn, which calls the model with some")
        if self._calls is None:
            self._calls = record_calls(self._model, self._run_fn, self._run_args)
        return self._calls
