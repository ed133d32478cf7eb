"""What the weight-only configurations have in common: the format of a weight, named by dtype and bits."""

import re

import torch

from incref.formats import FORMATS, FloatFormat, Format, IntFormat, SymmetricScale, get_format
from incref.numerics.granularity import Granularity, per_channel, per_group

__all__ = ["SKIP", "group_granularity", "scale_dtype_of", "symmetric_scale_of", "weight_format"]

SKIP = ("fp32", "float32")
"""The dtypes that leave a layer alone."""

_SCALE_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
_INT = re.compile(r"int(\d*)")
# The names of 4-bit floats that users of Neural Compressor know; see "Coming from Neural Compressor" for the tables.
_ALIASES = {"fp4": "float4_e2m1fn"}


def weight_format(dtype: str, bits: int, *, use_sym: bool, prefix: str = "") -> Format:
    """Find the format that `dtype` names.

    Args:
        dtype: "int" with `bits`, "int1" to "int8", or a float or block format by name.
        bits: width of the codes where `dtype` is "int".
        use_sym: whether integers are symmetric, and so signed.
        prefix: what the names of the fields begin with that hold these values; errors name them.

    Raises:
        ValueError: if there is no such format, or it can't be asymmetric.
    """
    integer = _INT.fullmatch(dtype)
    if integer is not None:
        width = int(integer[1]) if integer[1] else bits
        if not 1 + use_sym <= width <= 8:
            field = f"{prefix}{'dtype' if integer[1] else 'bits'}"
            raise ValueError(
                f"{field}: integers have {1 + use_sym} to 8 bits if {prefix}use_sym={use_sym}, got {width}"
            )
        return FORMATS[f"{'int' if use_sym else 'uint'}{width}"]
    try:
        fmt = get_format(_ALIASES.get(dtype, dtype))
    except ValueError as error:
        raise ValueError(f"{prefix}dtype: {error}") from None
    if isinstance(fmt, IntFormat) or (isinstance(fmt, FloatFormat) and fmt.bits > 8):
        raise ValueError(f'{prefix}dtype must be "int", "int1" to "int8", or a float or block format, got {dtype!r}')
    if not use_sym:
        raise ValueError(f"only integers have zero points; {fmt.name} needs {prefix}use_sym=True")
    return fmt


def scale_dtype_of(name: str) -> torch.dtype | None:
    """Find what `name` says of scales: "float16" or "bfloat16"; "float32" leaves them as they are, None.

    Raises:
        ValueError: for another name.
    """
    if name not in _SCALE_DTYPES:
        raise ValueError(f"scale_dtype must be one of {', '.join(_SCALE_DTYPES)}, got {name!r}")
    return _SCALE_DTYPES[name]


def symmetric_scale_of(name: str, default: SymmetricScale, *, fmt: Format, use_sym: bool) -> SymmetricScale:
    """Find the grid of symmetric integers that `name` asks for.

    Raises:
        ValueError: for another name, or for one other than the default where there is no such grid.
    """
    if name not in [one.value for one in SymmetricScale]:
        allowed = ", ".join(one.value for one in SymmetricScale)
        raise ValueError(f"symmetric_scale must be one of {allowed}, got {name!r}")
    kind = SymmetricScale(name)
    if kind is not default and not (isinstance(fmt, IntFormat) and use_sym):
        raise ValueError(
            f"symmetric_scale is for symmetric integers, got {name!r} for {fmt.name} with use_sym={use_sym}"
        )
    return kind


def group_granularity(group_size: int, axis: int = -1) -> Granularity:
    """Groups of `group_size` weights of a matrix along `axis` (-1 or -2); a size of -1 is all of a row or column.

    Raises:
        ValueError: for another size that is not positive.
    """
    if group_size == -1:
        return per_channel(0 if axis == -1 else 1)
    if group_size < 1:
        raise ValueError(f"group_size must be positive, or -1 for a whole row, got {group_size}")
    return per_group(group_size, axis)
