"""What Intel's Gaudi chips do with 8-bit floats, one row a chip: all that they differ in."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from incref.formats.spec import FloatFormat
from incref.formats.table import FORMATS

__all__ = ["GAUDI", "GaudiChip"]

_SOFTWARE = "HabanaAI/Intel_Gaudi3_Software e6cef1c"


@dataclass(frozen=True, kw_only=True)
class GaudiChip:
    """What a chip calls FP8, and how it multiplies that.

    A matrix unit can read codes with another exponent bias than their format has, which multiplies all values with a
    power of two and costs nothing.

    Attributes:
        e4m3: the format of 4 exponent bits.
        e5m2: the format of 5 exponent bits.
        e4m3_biases: exponent biases that `e4m3` can be read with, ascending.
        e5m2_biases: likewise for `e5m2`.
        mixes_formats: whether one product may have a factor of each format.
        accumulator: how the matrix unit adds products: the name of a row of
            `incref.numerics.accumulate.table.MACHINES`, which has the step and its roundings.
        source: where this can be read.
    """

    e4m3: FloatFormat
    e5m2: FloatFormat
    e4m3_biases: tuple[int, ...]
    e5m2_biases: tuple[int, ...]
    mixes_formats: bool
    accumulator: str
    source: str

    def aligned_scales(self, fmt: FloatFormat) -> tuple[float, ...]:
        """The scales that other biases stand for: `2**(bias of fmt - bias)`, ascending.

        >>> GAUDI["gaudi2"].aligned_scales(GAUDI["gaudi2"].e4m3)
        (0.00390625, 0.0625, 1.0, 16.0)

        Raises:
            ValueError: if `fmt` is neither of the formats.
        """
        biases = {self.e4m3.name: self.e4m3_biases, self.e5m2.name: self.e5m2_biases}
        if fmt.name not in biases:
            raise ValueError(f"the chip has the formats {', '.join(biases)}, got {fmt.name}")
        return tuple(2.0 ** (fmt.bias - bias) for bias in reversed(biases[fmt.name]))


def _float(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


GAUDI: Mapping[str, GaudiChip] = MappingProxyType(
    {
        "gaudi2": GaudiChip(
            # The greatest exponent field is Inf and NaN, so 240 is the largest value; the bias is 7, not the 8 of fnuz.
            e4m3=_float("float8_e4m3"),
            e5m2=_float("float8_e5m2"),
            e4m3_biases=(3, 7, 11, 15),
            e5m2_biases=(15,),
            mixes_formats=False,
            accumulator="gaudi2_mme_fp8",
            source=f"{_SOFTWARE}: gaudi2/fs_core/fs_fma.cpp, gaudi2_fma.cpp, gaudi2_hal_reader.cpp",
        ),
        "gaudi3": GaudiChip(
            e4m3=_float("float8_e4m3fn"),
            e5m2=_float("float8_e5m2"),
            e4m3_biases=tuple(range(64)),
            e5m2_biases=tuple(range(64)),
            mixes_formats=True,
            accumulator="gaudi3_mme_fp8",
            source=f"{_SOFTWARE}: gaudi3/fs_core/fs_fma.cpp, gaudi3_fma.cpp, gaudi3_hal_reader.cpp",
        ),
    }
)
"""Chips by name. None of this was seen on a chip."""
