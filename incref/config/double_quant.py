"""How configurations describe scales that are quantized themselves."""

from typing import Protocol

from incref.config.weight_format import weight_format
from incref.formats import BlockFormat, Format, IntFormat
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec

__all__ = ["DoubleQuant", "double_quant"]


class DoubleQuant(Protocol):
    """The fields that say it."""

    @property
    def use_double_quant(self) -> bool:
        """Whether scales are quantized."""

    @property
    def double_quant_dtype(self) -> str:
        """Their format: "int", or "int1" to "int8"."""

    @property
    def double_quant_bits(self) -> int:
        """Their bits where the format is "int"."""

    @property
    def double_quant_use_sym(self) -> bool:
        """Whether they are symmetric; if not, they are counted from the least of their group."""

    @property
    def double_quant_group_size(self) -> int:
        """How many share a step."""


def double_quant(config: DoubleQuant, fmt: Format, run: ScaleRun) -> ScaleSpec | None:
    """Say how `config` quantizes the scales of weights in `fmt`; None if it doesn't.

    Raises:
        ValueError: for a format that scales can't have, or a block format, whose scales are codes already.
    """
    if not config.use_double_quant:
        return None
    if isinstance(fmt, BlockFormat):
        raise ValueError(f"scales of {fmt.name} are codes already; set use_double_quant=False")  # noqa: TRY004  # a value of the wrong kind
    scale_fmt = weight_format(config.double_quant_dtype, config.double_quant_bits, use_sym=config.double_quant_use_sym)
    if not isinstance(scale_fmt, IntFormat):
        raise ValueError(f'double_quant_dtype must be "int" or "int1" to "int8", got {config.double_quant_dtype!r}')  # noqa: TRY004  # likewise
    return ScaleSpec(
        fmt=scale_fmt, symmetric=config.double_quant_use_sym, group_size=config.double_quant_group_size, run=run
    )
