"""Quantized linear layers as other libraries store them: what their layouts have in common."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.errors import CheckpointError
from incref.formats import FORMATS, IntFormat
from incref.numerics.granularity import PER_TENSOR, Granularity, per_channel, per_group
from incref.numerics.patterns import FLOAT_DTYPES
from incref.numerics.scaled import round_to_half
from incref.qtensor.format_json import Json
from incref.qtensor.parts import Parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = [
    "Codec",
    "IntParts",
    "StoredLayer",
    "int_weight",
    "narrow_scale",
    "require_group_size",
    "require_int",
    "require_part",
    "take_int_parts",
]


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """A quantized linear layer, but for its bias.

    Attributes:
        weight: [N, K].
        activation: how its input is quantized; None not at all.
        input_scale: a static scale of its input, float32 [], or None.
    """

    weight: QTensor
    activation: QuantSpec | None = None
    input_scale: Tensor | None = None


class Codec(ABC):
    """Turns the tensors of a layer in a checkpoint into a quantized weight."""

    @abstractmethod
    def layers(self, names: Collection[str]) -> list[str]:
        """Name the quantized layers of a checkpoint whose tensors have `names`."""

    @abstractmethod
    def decode(self, layer: str, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> StoredLayer:
        """Read a layer.

        Args:
            layer: its name.
            parts: its tensors but for the bias, by what follows its name.
            shape: N and K of the layer in the model.

        Raises:
            CheckpointError: if a part is missing, unknown, or has another dtype or shape than it has to have; or if
                their values have no one meaning. The message names the layer.
        """


@dataclass(frozen=True, kw_only=True)
class IntParts:
    """An integer weight as checkpoints have it: unsigned codes, with a zero point and a scale for each group.

    Attributes:
        codes: uint8 [N, K], the columns of the weight in their own order.
        zero_point: uint8 [N, G].
        scale: float32 [N, G].
        bits: width of a code.
        group_size: columns in a group; -1 for all.
        groups: int32 [K], the group of each column; None for `k // group_size`.
    """

    codes: Tensor
    zero_point: Tensor
    scale: Tensor
    bits: int
    group_size: int
    groups: Tensor | None = None

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point is the middle, `2**(bits - 1)`."""
        return bool((self.zero_point == 1 << (self.bits - 1)).all())


def int_weight(layer: str, stored: IntParts, dtype: torch.dtype) -> QTensor:
    """Make a weight of `dtype` from its parts.

    Where all zero points are `2**(bits - 1)`, codes are signed and there are no zero points; else codes are unsigned.

    Raises:
        CheckpointError: if a scale is not finite, or `groups` does not put `group_size` columns into each group.
    """
    if not bool(stored.scale.isfinite().all()):
        raise CheckpointError(f"{layer}: scales must be finite, and there are NaN or Inf among them")
    order = None if stored.groups is None else _order(layer, stored.groups, stored.group_size)
    codes = stored.codes if order is None else stored.codes[:, order.to(torch.int64)]
    granularity = per_channel() if stored.group_size == -1 else per_group(stored.group_size)
    if stored.is_symmetric:
        signed = (codes.to(torch.int16) - (1 << (stored.bits - 1))).to(torch.int8)
        spec = QuantSpec(fmt=FORMATS[f"int{stored.bits}"], granularity=granularity)
        return QTensor.from_parts(Parts(codes=signed, scale=stored.scale), spec, dtype, order=order)
    spec = QuantSpec(fmt=FORMATS[f"uint{stored.bits}"], granularity=granularity, symmetric=False)
    parts = Parts(codes=codes.contiguous(), scale=stored.scale, zero_point=stored.zero_point.to(torch.int32))
    return QTensor.from_parts(parts, spec, dtype, order=order)


def take_int_parts(layer: str, weight: QTensor) -> IntParts:
    """Undo `int_weight`.

    Raises:
        CheckpointError: if the codes are no integers, or don't share scales in groups along K.
    """
    fmt, spec = weight.spec.fmt, weight.spec
    if not isinstance(fmt, IntFormat) or len(weight.shape) != 2:
        raise CheckpointError(f"{layer}: this layout holds matrices of integers, got {weight}")
    if spec.rule.is_power_of_two:
        raise CheckpointError(
            f"{layer}: this layout holds float scales, and these are powers of two, kept as exponents"
        )
    rows, columns = weight.shape
    group_size = _group_size(layer, spec.granularity, weight.shape)
    parts = weight.parts
    groups = -(-columns // group_size) if group_size != -1 else 1
    scale = parts.scale.expand(rows, groups)
    if spec.symmetric:
        middle = 1 << (fmt.bits - 1)
        codes = (parts.codes.to(torch.int16) + middle).to(torch.uint8)
        zero_point = torch.full((rows, groups), middle, dtype=torch.uint8, device=codes.device)
    else:
        assert parts.zero_point is not None
        codes, zero_point = parts.codes, parts.zero_point.expand(rows, groups)
        if fmt.is_signed:
            raise CheckpointError(f"{layer}: codes with zero points must be unsigned in this layout, got {fmt.name}")
        zero_point = zero_point.to(torch.uint8)
    group_of = None
    if weight.order is not None:
        order = weight.order.to(torch.int64)
        codes = torch.empty_like(codes).index_copy_(1, order, codes)
        if groups > 1:
            places = torch.arange(columns, dtype=torch.int32, device=codes.device) // group_size
            group_of = torch.empty_like(places).index_copy_(0, order, places)
    return IntParts(
        codes=codes, zero_point=zero_point, scale=scale, bits=fmt.bits, group_size=group_size, groups=group_of
    )


def narrow_scale(layer: str, scale: Tensor, dtype: torch.dtype, *, rounds: bool) -> Tensor:
    """Give `scale` in `dtype`: exactly, or rounded to nearest even if `rounds`.

    Raises:
        CheckpointError: if a scale changes and must not; or if one that is not 0 became 0 or Inf.
    """
    narrow = round_to_half(scale, dtype).to(dtype)
    name = FLOAT_DTYPES[dtype]
    if not rounds and not torch.equal(narrow.to(scale.dtype), scale):
        raise CheckpointError(
            f"{layer}: scales must be {name} numbers in this layout, and these are not. Quantize with "
            f'scale_dtype="{name}", so that codes are chosen for scales of that dtype; or save with '
            f'scale_dtype="{name}" to round the scales of a model that was quantized without, which changes its weights'
        )
    if bool(((narrow == 0) & (scale != 0)).any()) or not bool(narrow.isfinite().all()):
        raise CheckpointError(f"{layer}: a scale is beyond the range of {name}; save with a wider scale_dtype")
    return narrow


def require_part(
    layer: str, parts: Mapping[str, Tensor], name: str, dtypes: Collection[torch.dtype], shape: tuple[int, ...]
) -> Tensor:
    """Return the part called `name`.

    Raises:
        CheckpointError: if there is none, or it has another dtype or shape.
    """
    part = parts.get(name)
    allowed = " or ".join(str(dtype) for dtype in dtypes)
    if part is None:
        raise CheckpointError(f"{layer}: {name} must be {allowed} of shape {shape}, and there is none")
    if part.dtype not in dtypes or tuple(part.shape) != shape:
        raise CheckpointError(
            f"{layer}: {name} must be {allowed} of shape {shape}, got {part.dtype} of shape {tuple(part.shape)}"
        )
    return part


def require_int(config: Mapping[str, Json], name: str, allowed: Collection[int] | None = None) -> int:
    """Return the integer called `name` of a description of quantization.

    Raises:
        CheckpointError: if there is none, or it is not one of `allowed`.
    """
    value = config.get(name)
    if type(value) is not int or (allowed is not None and value not in allowed):
        known = "an integer" if allowed is None else f"one of {', '.join(map(str, allowed))}"
        raise CheckpointError(f"quantization_config: {name} must be {known}, got {value!r:.80}")
    return value


def require_group_size(config: Mapping[str, Json], name: str = "group_size") -> int:
    """Return the size of groups that a description of quantization says: positive, or -1 for a whole row."""
    group_size = require_int(config, name)
    if group_size != -1 and group_size < 1:
        raise CheckpointError(f"quantization_config: {name} must be positive or -1, got {group_size}")
    return group_size


def _order(layer: str, groups: Tensor, group_size: int) -> Tensor | None:
    """The columns by their group, None where they stand so already."""
    columns = len(groups)
    wanted = torch.arange(columns, device=groups.device) // (columns if group_size == -1 else group_size)
    if torch.equal(groups.to(torch.int64), wanted):
        return None
    order = groups.argsort(stable=True)
    if not torch.equal(groups[order].to(torch.int64), wanted):
        raise CheckpointError(
            f"{layer}: g_idx must put {group_size} of the {columns} columns into every group, the last excepted, and "
            "name each group; this one does not"
        )
    return order.to(torch.int32)


def _group_size(layer: str, granularity: Granularity, shape: tuple[int, ...]) -> int:
    """Columns that share a scale; -1 for a row or the whole weight."""
    if granularity == PER_TENSOR:
        return -1
    rows, columns = granularity.block_shape(shape)
    if rows != 1 and shape[0] > 1:
        raise CheckpointError(f"{layer}: scales must be those of groups along K in this layout, got {granularity}")
    if granularity.block and granularity.block[-1] == -1:
        return -1
    # A group longer than the row keeps the size that it was given.
    return granularity.block[-1] if granularity.block else columns
