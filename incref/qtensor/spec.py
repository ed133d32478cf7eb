"""How a tensor is quantized: everything that turns floats into codes, as data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import TypeVar

import torch

from incref.formats import (
    BlockFormat,
    BlockRule,
    ElementFormat,
    FloatFormat,
    Format,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    QuotientDtype,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
)
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import FLOAT_DTYPES
from incref.qtensor.format_json import Json, format_from_json, format_to_json
from incref.qtensor.scale_spec import ScaleSpec

__all__ = ["QuantSpec", "word_dtype"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """The format of the codes, what shares a scale, and every choice on the way.

    Attributes:
        fmt: format of the codes.
        granularity: elements that share a scale; a block format has its own, along `axis`.
        axis: dimension that the blocks of a block format run along.
        symmetric: whether zero is code zero; False needs an integer format and gives zero points.
        symmetric_scale: where a symmetric integer grid puts the largest magnitude.
        int_range: which integer codes are used; left out, RESTRICTED in a block format and FULL elsewhere.
        rule: how the largest magnitude becomes a scale; left out, FLOOR where scales are powers of two, else DIVIDE.
        arithmetic: how a value is divided by its scale.
        quotient: which dtype that is computed in; floats without blocks of their own only.
        rounding: which neighbour a value becomes.
        overflow: what a value beyond the range becomes.
        nan: what a NaN becomes where the format has none.
        nan_block: what a NaN does to its block, in a block format.
        inf_block: what an Inf does to its block, in a block format.
        scales: how scales are quantized themselves; None where they are kept as they are.
        scale_dtype: what scales that are floats are rounded to, to nearest even, before codes are chosen, for files
            that hold them in that dtype; None where they stay as the rule gives them. Zero points are those of the
            scales before.
        tensor_scale_divides: whether the scale of the tensor divides those of blocks, `value * (scale / tensor_scale)`
            with both results rounded to float32, instead of multiplying `value * scale`. Weights of some checkpoints
            are so; nothing is quantized so.
    """

    fmt: Format
    granularity: Granularity = PER_TENSOR
    axis: int = -1
    symmetric: bool = True
    symmetric_scale: SymmetricScale = SymmetricScale.QMAX
    int_range: IntRange = None  # type: ignore[assignment]  # __post_init__ fills it in
    rule: ScaleRule = None  # type: ignore[assignment]  # likewise
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE
    quotient: QuotientDtype = QuotientDtype.COMPUTE
    rounding: Rounding = Rounding.NEAREST_EVEN
    overflow: Overflow = Overflow.SATURATE
    nan: NanRule = NanRule.ERROR
    nan_block: BlockRule = BlockRule.NAN_BLOCK
    inf_block: BlockRule = BlockRule.NAN_BLOCK
    scales: ScaleSpec | None = None
    scale_dtype: torch.dtype | None = None
    tensor_scale_divides: bool = False

    def __post_init__(self) -> None:
        """Fill in what follows from the format, and refuse choices that it does not have."""
        fmt = self.fmt
        is_block = isinstance(fmt, BlockFormat)
        if isinstance(fmt, FloatFormat) and not (fmt.is_signed and fmt.has_zero and fmt.bits <= 16):
            raise ValueError(f"tensors are quantized to signed floats of at most 16 bits with a zero, got {fmt.name}")
        is_power_of_two = isinstance(fmt, BlockFormat) and fmt.scale.mantissa_bits == 0
        int_range = _given(self.int_range, IntRange.RESTRICTED if is_block else IntRange.FULL)
        object.__setattr__(self, "int_range", int_range)
        object.__setattr__(self, "rule", _given(self.rule, ScaleRule.FLOOR if is_power_of_two else ScaleRule.DIVIDE))
        if is_block and self.granularity != PER_TENSOR:
            raise ValueError(
                f"{fmt.name} has blocks of its own along axis; leave granularity out, got {self.granularity}"
            )
        if not self.symmetric and not isinstance(fmt, IntFormat):
            raise ValueError(f"only integer formats have zero points; {fmt.name} needs symmetric=True")
        if self.symmetric and isinstance(fmt, IntFormat) and not fmt.is_signed:
            raise ValueError(f"{fmt.name} has no negative codes, so it needs symmetric=False")
        if self.quotient is not QuotientDtype.COMPUTE and (is_block or isinstance(fmt, IntFormat)):
            raise ValueError(f"{fmt.name} is divided in the compute dtype; leave quotient out, got {self.quotient}")
        if self.scales is not None:
            self._check_scales(self.scales)
        if self.scale_dtype is not None:
            self._check_scale_dtype(self.scale_dtype)
        if self.tensor_scale_divides and not (isinstance(fmt, BlockFormat) and fmt.has_tensor_scale):
            raise ValueError(f"{fmt.name} has no scale of the tensor; leave tensor_scale_divides out")

    @property
    def element(self) -> ElementFormat:
        """Format of a code."""
        return self.fmt.element if isinstance(self.fmt, BlockFormat) else self.fmt

    @property
    def scale_dtypes(self) -> list[torch.dtype]:
        """The dtypes that scales may have: codes of the scale format, or floats."""
        if self.scales is not None:
            return [word_dtype(self.scales.fmt)]
        if isinstance(self.fmt, BlockFormat) or self.rule.is_power_of_two:
            return [torch.uint8]
        return [torch.float32, torch.float64]

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a tensor of `shape`.

        Raises:
            ValueError: if such a tensor has not the dimensions that the spec speaks of.
        """
        if not isinstance(self.fmt, BlockFormat):
            return self.granularity.scale_shape(shape)
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"blocks lie along axis {self.axis}, which a tensor of shape {tuple(shape)} has not")
        axis = self.axis % len(shape)
        return tuple(-(-size // self.fmt.block_size) if d == axis else size for d, size in enumerate(shape))

    def transposed(self) -> "QuantSpec":
        """The spec by which a transpose is quantized as what it is the transpose of: for the last two dimensions."""
        axis = {-1: -2, -2: -1}.get(self.axis, self.axis)
        return replace(self, axis=axis, granularity=self.granularity.transposed())

    def stored_bytes(self, shape: Sequence[int]) -> int:
        """Bytes that a `QTensor` of `shape` takes: codes, scales and zero points, each row of codes in whole bytes."""
        scale_shape = self.scale_shape(shape)
        total = _packed_bytes(shape, self.element.bits)
        if self.scales is None:
            total += math.prod(scale_shape) * self.scale_dtypes[0].itemsize
        else:
            per_step = torch.float32.itemsize * (1 if self.scales.symmetric else 2)
            total += _packed_bytes(scale_shape, self.scales.fmt.bits)
            total += math.prod(self.scales.step_shape(scale_shape)) * per_step
        if not self.symmetric:
            total += _packed_bytes(scale_shape, self.element.bits)
        has_tensor_scale = isinstance(self.fmt, BlockFormat) and self.fmt.has_tensor_scale
        return total + (torch.float32.itemsize if has_tensor_scale else 0)

    def __str__(self) -> str:
        """The format, and which elements share a scale if the format does not say so."""
        name = self.fmt.name if self.symmetric else f"{self.fmt.name} with zero points"
        if isinstance(self.fmt, BlockFormat):
            return name
        scales = "" if self.scales is None else f", scales {self.scales.fmt.name}"
        if self.scale_dtype is not None:
            scales = f", scales {FLOAT_DTYPES[self.scale_dtype]}"
        return f"{name}, {self.granularity}{scales}"

    def to_json(self) -> dict[str, Json]:
        """Describe the spec so that `from_json` gives an equal one."""
        described: dict[str, Json] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "fmt":
                described[field.name] = format_to_json(value)
            elif isinstance(value, ScaleSpec):
                described[field.name] = value.to_json()
            elif isinstance(value, torch.dtype):
                described[field.name] = FLOAT_DTYPES[value]
            elif isinstance(value, Granularity):
                described[field.name] = {"block": list(value.block), "lead": value.lead}
            else:
                described[field.name] = value.value if isinstance(value, Enum) else value
        return described

    def _check_scales(self, scales: ScaleSpec) -> None:
        """Refuse to quantize scales that are codes already, that are one for all, or that may be zero then."""
        if isinstance(self.fmt, BlockFormat) or self.rule.is_power_of_two:
            raise ValueError(f"scales of {self.fmt.name} are codes already; leave scales out")
        if self.granularity == PER_TENSOR:
            raise ValueError("one scale for all is not quantized; leave scales out")
        if self.symmetric and self.symmetric_scale is SymmetricScale.EXTREME and not scales.symmetric:
            raise ValueError("scales of both signs are quantized symmetrically")

    def _check_scale_dtype(self, dtype: torch.dtype) -> None:
        """Refuse to round scales that are codes, or to what is no narrower float."""
        if dtype not in _SCALE_DTYPES.values():
            raise ValueError(f"scales are rounded to {' or '.join(_SCALE_DTYPES)}, got {dtype}")
        if isinstance(self.fmt, BlockFormat) or self.rule.is_power_of_two or self.scales is not None:
            raise ValueError(f"scales of {self.fmt.name} are codes here; leave scale_dtype out")

    @classmethod
    def from_json(cls, described: Json) -> "QuantSpec":
        """Undo `to_json`.

        Raises:
            ValueError: if `described` is not what `to_json` gives; the message names the field.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(described, dict) or sorted(described) != sorted(names):
            raise ValueError(f"a QuantSpec has the fields {', '.join(names)}; got {described!r}")
        values = {name: _value(name, described[name]) for name in names}
        return cls(**values)  # type: ignore[arg-type]  # _value gives each its type


def word_dtype(element: ElementFormat) -> torch.dtype:
    """What codes of `element` are stored in: bytes if they are packed, or one code in each."""
    return torch.uint8 if element.bits < 8 else code_dtype(element)


def _packed_bytes(shape: Sequence[int], bits: int) -> int:
    *rows, length = shape or (1,)
    return math.prod(rows) * (-(-length * bits // 8))


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


_ENUMS: dict[str, type[Enum]] = {
    "symmetric_scale": SymmetricScale,
    "int_range": IntRange,
    "rule": ScaleRule,
    "arithmetic": ScaleArithmetic,
    "quotient": QuotientDtype,
    "rounding": Rounding,
    "overflow": Overflow,
    "nan": NanRule,
    "nan_block": BlockRule,
    "inf_block": BlockRule,
}


_SCALE_DTYPES = {FLOAT_DTYPES[dtype]: dtype for dtype in (torch.float16, torch.bfloat16, torch.float32)}


def _value(name: str, described: Json) -> object:
    if name == "scale_dtype" and (described is None or described in _SCALE_DTYPES):
        return None if described is None else _SCALE_DTYPES[str(described)]
    if name == "fmt":
        return format_from_json(described)
    if name == "scales":
        return None if described is None else ScaleSpec.from_json(described)
    if name in _ENUMS:
        return _ENUMS[name](described)
    if name == "granularity" and isinstance(described, dict):
        block, lead = described.get("block"), described.get("lead")
        if isinstance(block, list) and all(type(extent) is int for extent in block) and type(lead) is int:
            return Granularity(tuple(extent for extent in block if isinstance(extent, int)), lead)
    elif type(described) is {"axis": int, "symmetric": bool, "tensor_scale_divides": bool}.get(name):
        return described
    raise ValueError(f"{name} of a QuantSpec can't be {described!r}")
