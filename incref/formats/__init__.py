"""Number formats as data: what every code of a format means, and the choices a conversion has to make."""

from incref.formats.modes import (
    BlockRule,
    IntRange,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleOrder,
    ScaleRule,
    SymmetricScale,
)
from incref.formats.presets import MX_PRESETS, MxOptions, MxPreset
from incref.formats.spec import BlockFormat, CodebookFormat, ElementFormat, FloatFormat, Format, IntFormat, Specials
from incref.formats.table import E8M0, FORMATS, get_format, short_names

__all__ = [
    "E8M0",
    "FORMATS",
    "MX_PRESETS",
    "BlockFormat",
    "BlockRule",
    "CodebookFormat",
    "ElementFormat",
    "FloatFormat",
    "Format",
    "IntFormat",
    "IntRange",
    "MxOptions",
    "MxPreset",
    "NanRule",
    "Overflow",
    "QuotientDtype",
    "Rounding",
    "ScaleArithmetic",
    "ScaleOrder",
    "ScaleRule",
    "Specials",
    "SymmetricScale",
    "get_format",
    "short_names",
]
