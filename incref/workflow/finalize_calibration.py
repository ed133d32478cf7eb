"""`finalize_calibration`: write down what calibration measured."""

from torch import nn

from incref.workflow.measurements import write_measurements
from incref.workflow.prepare import find_plan

__all__ = ["finalize_calibration"]


def finalize_calibration(model: nn.Module) -> None:
    """Write what the calls of a prepared model measured to the file that its `FP8Config` names.

    With `observer="maxabs_per_channel"` the largest magnitudes of all channels are beside it, in a safetensors file of
    that name.

    A later `convert(model, FP8Config(mode="QUANTIZE", ...))` of the float model, also in another process, reads it. The
    model stays prepared: `convert` may follow at once.

    Raises:
        ValueError: if the model was not prepared by an `FP8Config`, was not called, or was fed what is not finite.
    """
    plan = find_plan(model)
    if plan is None or plan.amax is None or plan.measurements is None:
        raise ValueError("there is nothing to write; prepare the model with an FP8Config first")
    if not plan.amax.amax:
        raise ValueError("the prepared model was not called; feed it calibration data first")
    write_measurements(plan.measurements, plan.amax.amax, plan.amax.channels)
