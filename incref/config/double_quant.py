"""How configurations describe scales that are quantized themselves."""

from typing import Protocol

from incref.config.weight_format import weight_format
from incref.formats import BlockFormat, IntFormat
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec

__all__ = ["DoubleQuant", "double_quant", "refuse_double_quant"]


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


def double_quant(config: DoubleQuant, run: ScaleRun) -> ScaleSpec | None:
    """Say how `config` quantizes scales; None if it doesn't.

    Raises:
        ValueError: for a format that scales can't have, or a group that is not positive, whether they are used or not.
    """
    use_sym, group_size = config.double_quant_use_sym, config.double_quant_group_size
    fmt = weight_format(config.double_quant_dtype, config.double_quant_bits, use_sym=use_sym, prefix="double_quant_")
    if not isinstance(fmt, IntFormat):
        raise ValueError(f'double_quant_dtype must be "int" or "int1" to "int8", got {config.double_quant_dtype!r}')  # noqa: TRY004  # a value of the wrong kind
    if group_size < 1:
        raise ValueError(f"double_quant_group_size must be positive, got {group_size}")
    if not config.use_double_quant:
        return None
    return ScaleSpec(fmt=fmt, symmetric=use_sym, group_size=group_size, run=run)


def refuse_double_quant(scales: ScaleSpec | None, fmt: BlockFormat) -> None:
    """Check that the scales of a block format, which are codes already, are not quantized again.

    Raises:
        ValueError: if they are.
    """
    if scales is not None:
        raise ValueError(f"scales of {fmt.name} are codes already; set use_double_quant=False")
