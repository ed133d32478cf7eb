"""`SmoothQuantConfig`: 8-bit integers, after outliers have moved from inputs to weights."""

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import ClassVar

from typing_extensions import Self

from incref.config.base import EVERYTHING, WhiteList
from incref.config.int8_fields import Int8Fields, one_of, range_rule, require_plain
from incref.config.scheme import LayerScheme
from incref.config.smoothing import SharedAlpha, Smoothing
from incref.config.space import Choices, scalar_kind
from incref.errors import UnsupportedError

__all__ = ["SmoothQuantConfig", "get_default_sq_config"]

_AUTO_FIELDS = ("init_alpha", "alpha_min", "alpha_max", "alpha_step", "shared_criterion", "do_blockwise")


@dataclass(frozen=True)
class SmoothQuantConfig(Int8Fields):
    """Linear layers as `INT8StaticQuantConfig` makes them, with scales of features that `Smoothing` describes.

    Attributes:
        w_dtype: as in `INT8StaticQuantConfig`; so for the next seven.
        w_sym: whether weights have no zero points.
        w_granularity: "per_channel" or "per_tensor".
        w_algo: "minmax" or "mse".
        act_dtype: "uint8" or "int8".
        act_sym: whether inputs are symmetric about zero.
        act_granularity: "per_tensor".
        act_algo: "minmax", "percentile", "kl" or "mse".
        excluded_precisions: accepted and without effect.
        alpha: from 0 to 1, or "auto" to choose for each layer among those that the next fields give. A list is a search
            space.
        folding: whether the norm in front of a layer divides. A layer without such a norm is quantized as it is, with a
            warning.
        scale_sharing: whether layers that are fed the same tensor share their scales, also without folding.
        init_alpha: the alpha to choose among equally good ones is the nearest to this.
        alpha_min: the least that "auto" tries.
        alpha_max: the greatest.
        alpha_step: from one to the next.
        shared_criterion: what layers do that share their scales and chose differently: "max", "min" or "mean".
        do_blockwise: has to be False: the error is that of each layer's output.
        auto_alpha_args: the fields from `init_alpha` on, by name, in place of those here.
        white_list: the layers that the configuration speaks of.
        act_percentile: what "percentile" keeps.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for a value that is not listed above; the message lists them.
        UnsupportedError: for `do_blockwise`.
    """

    name: ClassVar[str] = "smooth_quant"

    excluded_precisions: list[str] = field(default_factory=list)
    alpha: float | str | list[float | str] = 0.5
    folding: bool = False
    scale_sharing: bool = False
    init_alpha: float = 0.5
    alpha_min: float = 0.0
    alpha_max: float = 1.0
    alpha_step: float = 0.1
    shared_criterion: str = "max"
    do_blockwise: bool = False
    auto_alpha_args: dict[str, float | str | bool] | None = None
    white_list: WhiteList = EVERYTHING
    act_percentile: float = 99.99

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.alpha, list):
            if not self.alpha:
                raise ValueError("alpha must have a value to choose, got an empty list")
            object.__setattr__(self, "alpha", list(self.alpha))
        super().__post_init__()

    @property
    def choices(self) -> Choices:
        """The fields that hold a list of values, `alpha` too."""
        held = {
            f.name: getattr(self, f.name) for f in fields(self) if scalar_kind(f.type) is not None or f.name == "alpha"
        }
        return {name: value for name, value in held.items() if isinstance(value, list)}

    def scheme(self) -> LayerScheme | None:
        """What a layer becomes; None where `w_dtype` is "fp32"."""
        self.require_one()
        require_plain(self.excluded_precisions, None)
        return self.int8_scheme(input_range=range_rule(self.act_algo, self.act_percentile), smoothing=self._smoothing())

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for: alpha from 0.1 to 0.9."""
        return cls(alpha=[n / 10 for n in range(1, 10)])

    def _smoothing(self) -> Smoothing:
        given: dict[str, object] = {name: getattr(self, name) for name in _AUTO_FIELDS}
        more: object = self.auto_alpha_args
        if more is not None:
            if not isinstance(more, dict) or not set(more) <= set(given):
                raise ValueError(f"auto_alpha_args is a dict of {', '.join(given)}, got {more!r}")
            given |= more
        if given["do_blockwise"]:
            raise UnsupportedError("alpha is chosen by the output of each layer; set do_blockwise=False")
        least, most, step, preferred = (
            _share(name, given[name]) for name in ("alpha_min", "alpha_max", "alpha_step", "init_alpha")
        )
        if step == 0 or least > most:
            raise ValueError(f"alpha goes from alpha_min up to alpha_max, got {least} to {most} by {step}")
        criterion = str(given["shared_criterion"])
        one_of("shared_criterion", criterion, [one.value for one in SharedAlpha])
        if self.alpha == "auto":
            steps = int((most - least) / step)
            alphas = tuple(float(least + n * step) for n in range(steps + 1))
        else:
            alphas = (float(_share("alpha", self.alpha)),)
        return Smoothing(
            alphas=alphas,
            preferred=float(preferred),
            shared_alpha=SharedAlpha(criterion),
            is_shared=self.scale_sharing or self.folding,
            folds=self.folding,
        )


def _share(name: str, value: object) -> Decimal:
    """The number as it was written: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        auto = ' or "auto"' if name == "alpha" else ""
        raise TypeError(f"{name} must be a number{auto}, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value!r}")
    return Decimal(repr(value))


def get_default_sq_config() -> SmoothQuantConfig:
    """Make the default configuration: alpha 0.5, without folding."""
    return SmoothQuantConfig()
