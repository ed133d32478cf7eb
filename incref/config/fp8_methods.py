"""The scale methods of `FP8Config`, and the machines that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat, QuotientDtype
from incref.formats.gaudi import GAUDI
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group

__all__ = ["SCALE_METHODS", "TARGETS", "ScaleMethod", "Sharing", "Target"]

_BLOCK = 128


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a machine has.

    Attributes:
        e4m3: its format of 4 exponent bits.
        aligned: the scales that it applies without arithmetic, ascending powers of two; empty if it has none.
        quotient: which dtype it scales values in before it rounds them to codes.
    """

    e4m3: FloatFormat
    aligned: tuple[float, ...] = ()
    quotient: QuotientDtype = QuotientDtype.COMPUTE


def _float(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


def _gaudi(chip: str) -> Target:
    found = GAUDI[chip]
    return Target(e4m3=found.e4m3, aligned=found.aligned_scales(found.e4m3), quotient=QuotientDtype.INPUT)


_GAUDI3 = _gaudi("gaudi3")

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "gaudi2": _gaudi("gaudi2"),
        # Neural Compressor leaves out the last bias, and so the least scale.
        "gaudi3": replace(_GAUDI3, aligned=_GAUDI3.aligned[1:]),
        "ocp": Target(e4m3=_float("float8_e4m3fn")),
    }
)
"""Machines by name. "ocp" is any that has the formats of OCP and multiplies with scales."""


class Sharing(Enum):
    """What shares a scale."""

    TENSOR = "PTS"
    """All of the tensor."""
    CHANNEL = "PCS"
    """An output channel of a weight; of an input a token, which is a vector along its last dimension."""
    BLOCK = "PBS"
    """128 x 128 neighbours of a weight, and 128 neighbours of a token (arXiv 2412.19437, 3.3.1)."""

    def of_weight(self, ndim: int) -> Granularity:
        """What shares a scale in a weight of `ndim` dimensions.

        Raises:
            UnsupportedError: for blocks of anything but a matrix.
        """
        if self is Sharing.BLOCK and ndim != 2:
            raise UnsupportedError(
                f"blocks of {_BLOCK} x {_BLOCK} weights are of matrices, got a weight of {ndim} dimensions; give such "
                "layers another scale_method by set_local, or leave them alone by the blocklist"
            )
        return {
            Sharing.TENSOR: PER_TENSOR,
            Sharing.CHANNEL: per_channel(0, ndim=ndim),
            Sharing.BLOCK: per_block((_BLOCK, _BLOCK)),
        }[self]

    @property
    def of_input(self) -> Granularity:
        """What shares a scale in an input."""
        return {
            Sharing.TENSOR: PER_TENSOR,
            Sharing.CHANNEL: PER_TOKEN,
            Sharing.BLOCK: per_group(_BLOCK),
        }[self]


@dataclass(frozen=True, kw_only=True)
class ScaleMethod:
    """Where the scales of a layer come from, for a target that is not known yet.

    Attributes:
        weight: which values the scale of a weight may have.
        weight_shares: which weights have one.
        weight_backoff: see `MaxAbsScale`.
        weight_choices: for a search over some; left out where the target says which.
        activation: which values the scale of an input may have.
        activation_shares: what of an input has one; where that is less than all of it, scales are found in every call.
        activation_backoff: see `MaxAbsScale`.
    """

    weight: ScaleValue
    weight_shares: Sharing = Sharing.TENSOR
    weight_backoff: float = 0.5
    weight_choices: tuple[float, ...] = ()
    activation: ScaleValue
    activation_shares: Sharing = Sharing.TENSOR
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


def _filled(value: ScaleValue, shares: Sharing) -> ScaleMethod:
    """Scales by which the largest magnitude falls on the end of the range, of weight and input."""
    return ScaleMethod(
        weight=value,
        weight_shares=shares,
        weight_backoff=1.0,
        activation=value,
        activation_shares=shares,
        activation_backoff=1.0,
    )


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
        "act_maxabs_hw_weights_pcs_maxabs_pow2": ScaleMethod(
            weight=_POW2, weight_shares=Sharing.CHANNEL, activation=_HW
        ),
        "act_maxabs_hw_weights_pcs_opt_pow2": ScaleMethod(
            weight=ScaleValue.BEST_MULTIPLE,
            weight_shares=Sharing.CHANNEL,
            weight_choices=_OPT_PER_CHANNEL,
            activation=_HW,
        ),
        "act_maxabs_pow2_weights_pcs_maxabs_pow2": ScaleMethod(
            weight=_POW2, weight_shares=Sharing.CHANNEL, activation=_POW2
        ),
        "act_maxabs_pow2_weights_pcs_opt_pow2": ScaleMethod(
            weight=ScaleValue.BEST_MULTIPLE,
            weight_shares=Sharing.CHANNEL,
            weight_choices=_OPT_PER_CHANNEL,
            activation=_POW2,
        ),
        "maxabs_pcs_pow2": ScaleMethod(
            weight=_POW2,
            weight_shares=Sharing.CHANNEL,
            activation=_POW2,
            activation_shares=Sharing.CHANNEL,
            activation_backoff=1.0,
        ),
        "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw": ScaleMethod(
            weight=_HW, activation=_POW2, activation_shares=Sharing.CHANNEL, activation_backoff=1.0
        ),
        # Those below have no name there.
        "maxabs_pcs_arbitrary": _filled(_ANY, Sharing.CHANNEL),
        "maxabs_blocks_arbitrary": _filled(_ANY, Sharing.BLOCK),
        "maxabs_blocks_pow2": _filled(_POW2, Sharing.BLOCK),
    }
)
"""Scale methods by name: those of Neural Compressor, then ours."""
