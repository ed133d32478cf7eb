"""The chips that are simulated, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat
from incref.formats.gaudi import GAUDI, GaudiChip
from incref.numerics.accumulate.models import Aligned
from incref.numerics.accumulate.table import find_accumulator
from incref_kernels.hpu.simulator.options import (
    Denormals,
    Inf,
    Int4ToFloat8,
    Nan,
    Scaling,
    Softmax,
    StochasticDenormals,
    Sum,
    Sums,
)

__all__ = ["PROFILES", "HpuProfile", "find_profile"]

_E4M3 = (None, "float8_e4m3", "float8_e4m3fn")


@dataclass(frozen=True, kw_only=True)
class HpuProfile:
    """One chip, with an answer to every question that its documents leave open.

    Chips differ in what `hardware` says: the range of E4M3 and its codes of Inf and NaN, the scales that are aligned,
    the step in which products are added and its roundings.

    Attributes:
        chip: its name in `GAUDI`.
        sums: how products are added.
        scaling: where a product is scaled.
        inf: what a cast makes of Inf.
        nan: what a cast makes of NaN.
        denormals: what a cast makes of small values.
        from_e4m3: name of the format that casts back take the codes of E4M3 for; None for that of casts to it. To
            "float8_e4m3fn", on Gaudi 2, codes from 0x78 on would be numbers.
        stochastic_denormals: what stochastic rounding of bfloat16 to E5M2 makes of small values
            (PT_HPU_STOCHASTIC_ROUNDING_MODE=1).
        mme_e4m3: name of the format that the matrix unit takes the codes of E4M3 for, and rounds results to; None for
            that of casts. The compiler of November 2024 has Inf and NaN there on Gaudi 3, too: "float8_e4m3".
        mme_clips: whether a result beyond the range of 8 bits is the largest value; else it is Inf or NaN.
        int4_to_float8: how 4-bit weights become 8-bit floats.
        sum: how `sum_fp8` rounds.
        softmax: how `softmax_fp8` rounds.
        has_group_index: whether `convert_from_uint4` and `convert_from_int4` take a fifth argument, the group of every
            row, as newer software does.
    """

    chip: str
    sums: Sums = Sums.EXACT
    scaling: Scaling = Scaling.BEFORE_ROUNDING
    inf: Inf = Inf.LARGEST
    nan: Nan = Nan.POSITIVE
    denormals: Denormals = Denormals.ROUNDED
    from_e4m3: str | None = None
    stochastic_denormals: StochasticDenormals = StochasticDenormals.STOCHASTIC
    mme_e4m3: str | None = None
    mme_clips: bool = True
    int4_to_float8: Int4ToFloat8 = Int4ToFloat8.ONCE
    sum: Sum = Sum.ONCE
    softmax: Softmax = Softmax.BFLOAT16
    has_group_index: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no chip, and a format that E4M3 can't be taken for."""
        if self.chip not in GAUDI:
            raise ValueError(f"chip must be one of {', '.join(GAUDI)}, got {self.chip!r}")
        for name in ("from_e4m3", "mme_e4m3"):
            if (fmt := getattr(self, name)) not in _E4M3:
                raise ValueError(f"{name} must be one of {', '.join(map(str, _E4M3))}, got {fmt!r}")

    @property
    def hardware(self) -> GaudiChip:
        """What is known of the chip."""
        return GAUDI[self.chip]

    def cast_format(self, dtype: torch.dtype) -> FloatFormat:
        """What casts give as PyTorch's 8-bit `dtype`.

        Raises:
            TypeError: if it is no float8_e4m3fn or float8_e5m2.
        """
        if dtype is torch.float8_e4m3fn:
            return self.hardware.e4m3
        if dtype is torch.float8_e5m2:
            return self.hardware.e5m2
        raise TypeError(f"8-bit floats are torch.float8_e4m3fn or torch.float8_e5m2, got {dtype}")

    def read_format(self, dtype: torch.dtype) -> FloatFormat:
        """What casts back take `dtype` for."""
        return self._format(dtype, self.from_e4m3)

    def mme_format(self, dtype: torch.dtype) -> FloatFormat:
        """What the matrix unit takes `dtype` for."""
        return self._format(dtype, self.mme_e4m3)

    def _format(self, dtype: torch.dtype, e4m3: str | None) -> FloatFormat:
        if dtype is not torch.float8_e4m3fn or e4m3 is None:
            return self.cast_format(dtype)
        fmt = FORMATS[e4m3]
        assert isinstance(fmt, FloatFormat)
        return fmt

    @property
    def accumulator(self) -> Aligned:
        """The steps of `Sums.STEPS`."""
        model = find_accumulator(self.hardware.accumulator)
        assert isinstance(model, Aligned)
        return model


PROFILES: Mapping[str, HpuProfile] = MappingProxyType({chip: HpuProfile(chip=chip) for chip in GAUDI})
"""The chips with every default."""


def find_profile(chip: str) -> HpuProfile:
    """Look up a chip.

    Raises:
        UnsupportedError: if there is none of that name.
    """
    if chip not in PROFILES:
        raise UnsupportedError(f"the simulated chips are {', '.join(PROFILES)}, got {chip!r}")
    return PROFILES[chip]
