"""A quantized tensor that takes as little memory as its format says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.errors import CheckpointError
from incref.formats import BlockFormat, IntFormat
from incref.formats.layouts import PackLayout
from incref.numerics.codes import code_dtype
from incref.numerics.patterns import FLOAT_DTYPES
from incref.ops.packed_codes import pack_codes, unpack_codes
from incref.qtensor.format_json import Json
from incref.qtensor.packed import STORED_LAYOUTS, packed_dtype, packed_shape, require_layout
from incref.qtensor.parts import Parts, dequantize_parts, quantize_parts
from incref.qtensor.quantized_scales import QuantizedScales, dequantize_scales
from incref.qtensor.spec import QuantSpec

__all__ = ["TENSORS", "QTensor", "require_permutation"]

TENSORS = ("packed", "scale", "zero_point", "tensor_scale", "order", "scale_step", "scale_low")
"""The fields that are tensors."""

_VERSION = 1
_DTYPES = {name: dtype for dtype, name in FLOAT_DTYPES.items()}
_LAYOUTS = tuple(layout.value for layout in STORED_LAYOUTS)


@dataclass(frozen=True, kw_only=True, eq=False)
class QTensor:
    """Codes and scales of a tensor, with the spec that gives them their meaning.

    Attributes:
        packed: the codes. Those of fewer than 8 bits are packed as `layout` says; others are kept one in an element.
        scale: of every block, as the operations give it; or, where the spec quantizes scales, their codes, packed like
            others.
        zero_point: of every block, packed like codes; None if symmetric.
        tensor_scale: one for all, of formats that have it, or None.
        order: int32; where the codes hold the columns (indices of the last dimension) in another order than the tensor,
            the column of the tensor that each of theirs is. Scales are those of the codes as they stand. Or None.
        scale_step: of every group of scales that are quantized, float32; None where they are not.
        scale_low: likewise, what scales are counted from; None if they are symmetric.
        spec: how the tensor was quantized.
        shape: of the tensor.
        dtype: that the tensor had.
        layout: how codes and zero points are packed. DENSE: along the last dimension, so that each takes exactly its
            bits but for the end of a row. HPU: as Gaudi reads them, of matrices [N, K] with unsigned codes of 4 bits,
            words [K, N / 8] along N, and those of zero points [groups, N / 8].

    Raises:
        ValueError: if a tensor is missing or has a dtype or shape that does not follow from `spec`, `shape` and
            `layout`.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None
    order: Tensor | None = None
    scale_step: Tensor | None = None
    scale_low: Tensor | None = None
    spec: QuantSpec
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: PackLayout = PackLayout.DENSE

    def __post_init__(self) -> None:
        """Check every tensor against the spec."""
        require_layout(self.layout, self.spec, self.shape)
        fmt, element = self.spec.fmt, self.spec.element
        words = [packed_dtype(element, self.layout)]
        scale_shape = self.spec.scale_shape(self.shape)
        has_tensor_scale = isinstance(fmt, BlockFormat) and fmt.has_tensor_scale
        _check("packed", self.packed, words, packed_shape(self.shape, element, self.layout))
        self._check_scales(scale_shape)
        if (self.zero_point is None) != self.spec.symmetric:
            raise ValueError(f"a zero point goes with symmetric=False, got symmetric={self.spec.symmetric}")
        if self.zero_point is not None:
            _check("zero_point", self.zero_point, words, packed_shape(scale_shape, element, self.layout))
        if (self.tensor_scale is not None) != has_tensor_scale:
            raise ValueError(f"{fmt.name} {'needs a' if has_tensor_scale else 'has no'} tensor_scale")
        if self.tensor_scale is not None:
            _check("tensor_scale", self.tensor_scale, [torch.float32], ())
        if self.order is not None:
            _check("order", self.order, [torch.int32], tuple(self.shape[-1:]))

    def _check_scales(self, scale_shape: tuple[int, ...]) -> None:
        scales = self.spec.scales
        stored = scale_shape if scales is None else packed_shape(scale_shape, scales.fmt)
        _check("scale", self.scale, self.spec.scale_dtypes, stored)
        wanted = {"scale_step": scales is not None, "scale_low": scales is not None and not scales.symmetric}
        for name, is_wanted in wanted.items():
            tensor = getattr(self, name)
            if (tensor is not None) != is_wanted:
                raise ValueError(f"{name} is {'missing' if is_wanted else 'for scales that are quantized otherwise'}")
            if tensor is not None and scales is not None:
                _check(name, tensor, [torch.float32], scales.step_shape(scale_shape))

    @classmethod
    def quantize(
        cls,
        x: Tensor,
        spec: QuantSpec,
        scale: Tensor | None = None,
        zero_point: Tensor | None = None,
        *,
        random_bits: Tensor | None = None,
    ) -> "QTensor":
        """Quantize `x` as `spec` says; the arguments are those of `quantize_parts`."""
        return cls.from_parts(quantize_parts(x, spec, scale, zero_point, random_bits=random_bits), spec, x.dtype)

    @classmethod
    def from_parts(
        cls,
        parts: Parts,
        spec: QuantSpec,
        dtype: torch.dtype,
        *,
        order: Tensor | None = None,
        layout: PackLayout = PackLayout.DENSE,
    ) -> "QTensor":
        """Pack what the operations gave for a tensor of `dtype`, or for its columns in `order`.

        Raises:
            ValueError: if a zero point is not a code of the format, `order` is not a permutation, or `layout` does not
                hold such a tensor.
        """
        require_layout(layout, spec, tuple(parts.codes.shape))
        if order is not None:
            require_permutation(order)
        zero_point = parts.zero_point
        if zero_point is not None:
            assert isinstance(spec.fmt, IntFormat)
            low, high = spec.fmt.min_code, spec.fmt.max_code
            if bool(((zero_point < low) | (zero_point > high)).any()):
                raise ValueError(f"zero points of {spec.fmt.name} must be from {low} to {high}")
            zero_point = pack_codes(zero_point.to(code_dtype(spec.fmt)), spec.fmt, layout)
        scales = parts.scales
        if scales is None and spec.scales is not None:
            raise ValueError("the spec quantizes scales, and the parts have none that are; use quantize_parts")
        return cls(
            packed=pack_codes(parts.codes, spec.element, layout),
            scale=parts.scale if scales is None or spec.scales is None else pack_codes(scales.codes, spec.scales.fmt),
            scale_step=None if scales is None else scales.step,
            scale_low=None if scales is None else scales.low,
            zero_point=zero_point,
            tensor_scale=parts.tensor_scale,
            order=order,
            spec=spec,
            shape=tuple(parts.codes.shape),
            dtype=dtype,
            layout=layout,
        )

    @property
    def parts(self) -> Parts:
        """Codes and scales as the operations take them, unpacked; of the columns in `order` if there is one."""
        return Parts(
            codes=self.codes,
            scale=self.block_scale,
            zero_point=self.block_zero_point,
            tensor_scale=self.tensor_scale,
            scales=self._scales,
        )

    @property
    def block_scale(self) -> Tensor:
        """The scale of every block, as the operations give it."""
        scales, spec = self._scales, self.spec.scales
        return self.scale if scales is None or spec is None else dequantize_scales(scales, spec)

    @property
    def block_zero_point(self) -> Tensor | None:
        """The zero point of every block, int32, or None."""
        if self.zero_point is None:
            return None
        shape = self.spec.scale_shape(self.shape)
        return unpack_codes(self.zero_point, self.spec.element, shape, self.layout).to(torch.int32)

    @property
    def _scales(self) -> QuantizedScales | None:
        """What scales are dequantized from, where they are quantized themselves."""
        spec = self.spec.scales
        if spec is None:
            return None
        assert self.scale_step is not None
        codes = unpack_codes(self.scale, spec.fmt, self.spec.scale_shape(self.shape))
        return QuantizedScales(codes=codes, step=self.scale_step, low=self.scale_low)

    @property
    def codes(self) -> Tensor:
        """One code an element, in the shape of the tensor; the columns in `order` if there is one."""
        return unpack_codes(self.packed, self.spec.element, self.shape, self.layout)

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Turn the codes back into values, with the roundings of the operation that the spec names.

        Args:
            dtype: of the values; None for the dtype that the tensor had.
        """
        values = dequantize_parts(self.parts, self.spec, dtype or self.dtype)
        if self.order is None:
            return values
        return torch.empty_like(values).index_copy_(-1, self.order.to(torch.int64), values)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.packed.device

    def to(self, device: torch.device | str) -> "QTensor":
        """Copy to `device`."""
        moved = {name: tensor.to(device) for name, tensor in self.to_tensors().items()}
        return replace(self, **moved)  # type: ignore[arg-type]  # the keys are names of tensor fields

    def with_dtype(self, dtype: torch.dtype) -> "QTensor":
        """The same codes and scales, of a tensor that had `dtype`: what `dequantize` gives if it isn't told."""
        return replace(self, dtype=dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors: codes, scales and zero points."""
        return sum(tensor.nbytes for tensor in self.to_tensors().values())

    @property
    def bits_per_element(self) -> float:
        """Bits of all tensors for each element; 0 if there are no elements."""
        return 8 * self.nbytes / max(math.prod(self.shape), 1)

    def to_tensors(self) -> dict[str, Tensor]:
        """The tensors by the name of their field, without those that are None."""
        named = {name: getattr(self, name) for name in TENSORS}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def metadata(self) -> dict[str, Json]:
        """Everything but the tensors, in JSON values."""
        shape: list[Json] = list(self.shape)
        return {
            "version": _VERSION,
            "layout": self.layout.value,
            "shape": shape,
            "dtype": FLOAT_DTYPES[self.dtype],
            "spec": self.spec.to_json(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: Json) -> "QTensor":
        """Undo `to_tensors` and `metadata`.

        Raises:
            CheckpointError: if the metadata is not what `metadata` gives, or does not describe the tensors.
        """
        try:
            spec, shape, dtype, layout = _read_metadata(metadata)
            if "order" in tensors:
                require_permutation(tensors["order"])
            return cls(**tensors, spec=spec, shape=shape, dtype=dtype, layout=layout)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"a quantized tensor can't be restored: {error}") from error

    def __repr__(self) -> str:
        """Format, shape and size."""
        return f"QTensor({self.spec.fmt.name}, shape={self.shape}, {self.bits_per_element:.4g} bits an element)"


def _read_metadata(metadata: Json) -> tuple[QuantSpec, tuple[int, ...], torch.dtype, PackLayout]:
    if not isinstance(metadata, dict) or metadata.get("version") != _VERSION:
        raise ValueError(f"the description of a tensor must have version {_VERSION}, got {metadata!r}")
    layout, shape, dtype = metadata.get("layout"), metadata.get("shape"), metadata.get("dtype")
    if layout not in _LAYOUTS:
        raise ValueError(f"the layout must be one of {', '.join(_LAYOUTS)}, got {layout!r}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"the dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if not isinstance(shape, list):
        raise TypeError(f"a shape is a list of extents, got {shape!r}")
    extents = tuple(size for size in shape if type(size) is int and size >= 0)
    if len(extents) != len(shape):
        raise ValueError(f"extents of a shape are integers and not negative, got {shape!r}")
    return QuantSpec.from_json(metadata.get("spec")), extents, _DTYPES[dtype], PackLayout(layout)


def require_permutation(order: Tensor) -> None:
    """Check that every column stands in `order` once; ones on the meta device have no values to check.

    Raises:
        ValueError: if one does not.
    """
    if order.is_meta:
        return
    if order.ndim != 1 or not torch.equal(
        order.sort().values.to(torch.int64), torch.arange(len(order), device=order.device)
    ):
        raise ValueError(f"order must name each column once, got {order}")


def _check(name: str, tensor: Tensor, dtypes: list[torch.dtype], shape: tuple[int, ...]) -> None:
    if tensor.dtype not in dtypes or tuple(tensor.shape) != shape:
        allowed = " or ".join(str(dtype) for dtype in dtypes)
        raise ValueError(
            f"{name} must be {allowed} of shape {shape}, got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
