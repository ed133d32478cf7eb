"""The scale methods of `FP8Config`, and the machines that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.formats import FORMATS, FloatFormat

__all__ = ["SCALE_METHODS", "TARGETS", "ScaleMethod", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a machine has.

    Attributes:
        e4m3: its format of 4 exponent bits.
        aligned: the scales that it applies without arithmetic, ascending powers of two; empty if it has none.
    """

    e4m3: FloatFormat
    aligned: tuple[float, ...] = ()


def _float(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        # Exponent biases 3, 7, 11 and 15 in place of 7.
        "gaudi2": Target(e4m3=_float("float8_e4m3"), aligned=(2.0**-8, 2.0**-4, 1.0, 2.0**4)),
        # Exponent biases 0 to 62.
        "gaudi3": Target(e4m3=_float("float8_e4m3fn"), aligned=tuple(2.0**k for k in range(-55, 8))),
        "ocp": Target(e4m3=_float("float8_e4m3fn")),
    }
)
"""Machines by name. "ocp" is any that has the formats of OCP and multiplies with scales."""


@dataclass(frozen=True, kw_only=True)
class ScaleMethod:
    """Where the scales of a layer come from, for a target that is not known yet.

    Attributes:
        weight: which values the scale of a weight may have.
        is_per_channel: whether every output channel of a weight has one.
        weight_backoff: see `MaxAbsScale`.
        weight_choices: for a search over some; left out where the target says which.
        activation: which values the scale of an input may have.
        is_per_token: whether every vector along its last dimension has one; those are found in every call.
        activation_backoff: see `MaxAbsScale`.
    """

    weight: ScaleValue
    is_per_channel: bool = False
    weight_backoff: float = 0.5
    weight_choices: tuple[float, ...] = ()
    activation: ScaleValue
    is_per_token: bool = False
    activation_backoff: float = 0.25

    def of_weight(self, target: Target) -> MaxAbsScale:
        """How scales of weights are found on `target`."""
        return _method(self.weight, self.weight_backoff, self.weight_choices, target)

    def of_activation(self, target: Target) -> MaxAbsScale:
        """How scales of inputs are found on `target`."""
        return _method(self.activation, self.activation_backoff, (), target)


def _method(value: ScaleValue, backoff: float, choices: tuple[float, ...], target: Target) -> MaxAbsScale:
    if value is ScaleValue.FIXED:
        return MaxAbsScale(value=value, choices=(target.aligned[-1] if target.aligned else 1.0,))
    if value in (ScaleValue.LISTED, ScaleValue.BEST_LISTED) and not choices:
        if not target.aligned:
            # Any power of two costs such a machine the same.
            return MaxAbsScale(value=ScaleValue.POWER_OF_TWO, backoff=backoff)
        choices = target.aligned
    return MaxAbsScale(value=value, backoff=1.0 if value is ScaleValue.ONE else backoff, choices=choices)


_ONE, _ANY, _POW2, _HW = ScaleValue.ONE, ScaleValue.ANY, ScaleValue.POWER_OF_TWO, ScaleValue.LISTED
_OPT_PER_TENSOR = tuple(2.0**k for k in range(-10, 10))
_OPT_PER_CHANNEL = tuple(2.0**k for k in range(-3, 5))

SCALE_METHODS: Mapping[str, ScaleMethod] = MappingProxyType(
    {
        "unit_scale": ScaleMethod(weight=_ONE, activation=_ONE),
        "hw_aligned_single_scale": ScaleMethod(weight=ScaleValue.FIXED, activation=ScaleValue.FIXED),
        "maxabs_hw": ScaleMethod(weight=_HW, activation=_HW),
        "maxabs_pow2": ScaleMethod(weight=_POW2, activation=_POW2),
        "maxabs_arbitrary": ScaleMethod(weight=_ANY, activation=_ANY),
        "maxabs_hw_opt_weight": ScaleMethod(weight=ScaleValue.BEST_LISTED, activation=_HW),
        "maxabs_pow2_opt_weight": ScaleMethod(
            weight=ScaleValue.BEST_LISTED, weight_choices=_OPT_PER_TENSOR, activation=_POW2
        ),
        "act_maxabs_hw_weights_pcs_maxabs_pow2": ScaleMethod(weight=_POW2, is_per_channel=True, activation=_HW),
        "act_maxabs_hw_weights_pcs_opt_pow2": ScaleMethod(
            weight=ScaleValue.BEST_MULTIPLE, is_per_channel=True, weight_choices=_OPT_PER_CHANNEL, activation=_HW
        ),
        "act_maxabs_pow2_weights_pcs_maxabs_pow2": ScaleMethod(weight=_POW2, is_per_channel=True, activation=_POW2),
        "act_maxabs_pow2_weights_pcs_opt_pow2": ScaleMethod(
            weight=ScaleValue.BEST_MULTIPLE, is_per_channel=True, weight_choices=_OPT_PER_CHANNEL, activation=_POW2
        ),
        "maxabs_pcs_pow2": ScaleMethod(
            weight=_POW2, is_per_channel=True, activation=_POW2, is_per_token=True, activation_backoff=1.0
        ),
        "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw": ScaleMethod(
            weight=_HW, activation=_POW2, is_per_token=True, activation_backoff=1.0
        ),
    }
)
"""Scale methods by the names of Neural Compressor."""
