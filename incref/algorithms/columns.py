"""Weights quantized one column at a time, by scales that a group of columns shares."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.backends.discovery import find_kernel
from incref.errors import NanError, UnsupportedError
from incref.formats import BlockFormat, IntFormat, IntRange, Rounding, ScaleArithmetic
from incref.numerics.codes import code_dtype
from incref.numerics.decode import decode_codes, value_table
from incref.numerics.encode import Encoding
from incref.numerics.scaled import scale_values
from incref.numerics.tabulated import encode_values, find_table
from incref.ops.gptq_update import gptq_update
from incref.ops.quantize_mx import quantize_mx
from incref.qtensor.parts import Parts, find_scale
from incref.qtensor.quantized_scales import QuantizedScales, dequantize_scales, quantize_scales
from incref.qtensor.scale_spec import ScaleRun
from incref.qtensor.spec import QuantSpec

__all__ = ["SHRINKS", "ColumnQuantizer", "Scales", "column_quantizer"]

SHRINKS = tuple((100 - i) / 100 for i in range(80))
"""By what the search for the least error shrinks the range of a group: 1, 0.99, ... 0.21."""

_SEARCH_POWER = 2.4
_TABLE_PAYS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What the columns of a group share.

    Attributes:
        scale: [ceil(N / rows), 1], or [] for one of a whole tensor, as the operations give it.
        zero_point: int32 of the same shape, or None.
        factor: float32 [N] or []: what a weight is divided by, or multiplied with if the arithmetic says so.
        step: float32 [N] or []: what a decoded element is multiplied with.
        offset: the zero point as float32 [N] or [], or None.
        quantized: what `scale` was dequantized from, where scales are quantized themselves, or None.
    """

    scale: Tensor
    zero_point: Tensor | None
    factor: Tensor
    step: Tensor
    offset: Tensor | None = None
    quantized: QuantizedScales | None = None


class ColumnQuantizer(ABC):
    """Quantizes columns of a matrix [N, K] to the bits that the operation of the format gives for whole groups.

    Attributes:
        spec: how weights are quantized.
        group_size: how many columns share scales.
        tensor_scale: one for all, of formats that have it, or None.
    """

    def __init__(self, spec: QuantSpec, block: tuple[int, int]) -> None:
        """Make it for groups of `block`: how many rows and how many columns share a scale."""
        self.spec = spec
        self.rows, self.group_size = block
        self.tensor_scale: Tensor | None = None
        self._divides = spec.arithmetic is ScaleArithmetic.DIVIDE

    @abstractmethod
    def scales(self, group: Tensor) -> Scales:
        """Compute the scales of `group`, float32 [N, up to group_size], as the operation of the format does."""

    @abstractmethod
    def quantize(self, column: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """Quantize a column, float32 [N].

        Returns:
            Codes [N], and what they dequantize to, float32 [N].
        """

    def quantize_in_turn(
        self,
        columns: Tensor,  # noqa: ARG002  # for those who can
        upper: Tensor,  # noqa: ARG002
        scales: Scales,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Quantize columns one after another, each of which adds its error to those that follow, as `gptq_update` does.

        Args:
            columns: [n, N], each a column.
            upper: [n, n], how errors spread.
            scales: of all of them.

        Returns:
            Codes [n, N], what they dequantize to, and errors; None where there is no faster way than column by column.
        """
        return None

    def assemble(self, codes: Tensor, groups: list[Scales]) -> Parts:
        """Put codes [N, K] and the scales of all groups together, as the operation of the format returns them."""
        first = groups[0]
        if first.scale.ndim == 0:
            return Parts(codes=codes, scale=first.scale, zero_point=first.zero_point)
        zero_points = [one.zero_point for one in groups if one.zero_point is not None]
        quantized = [one.quantized for one in groups if one.quantized is not None]
        return Parts(
            codes=codes,
            scale=torch.cat([one.scale for one in groups], dim=1),
            zero_point=torch.cat(zero_points, dim=1) if zero_points else None,
            tensor_scale=self.tensor_scale,
            scales=_join(quantized) if quantized else None,
        )

    def _quotient(self, column: Tensor, scales: Scales) -> Tensor:
        return column / scales.factor if self._divides else column * scales.factor

    def _per_row(self, scale: Tensor, rows: int) -> Tensor:
        """Give a scale for each of `rows` rows, from one for each block of them."""
        if scale.ndim == 0:
            return scale
        spread = scale.view(-1)
        return spread if self.rows == 1 else spread.repeat_interleave(self.rows)[:rows]


def _join(columns: list[QuantizedScales]) -> QuantizedScales:
    """Put the scales of all groups together; each group is a run of its own."""
    lows = [one.low for one in columns if one.low is not None]
    return QuantizedScales(
        codes=torch.cat([one.codes for one in columns], dim=1),
        step=torch.cat([one.step for one in columns]),
        low=torch.cat(lows) if lows else None,
    )


class _SearchingColumns(ColumnQuantizer):
    """Scales that are floats, or powers of two, of a granularity; with a search for the best range if asked for."""

    def __init__(self, spec: QuantSpec, block: tuple[int, int], *, use_mse_search: bool) -> None:
        super().__init__(spec, block)
        self._use_mse_search = use_mse_search

    def scales(self, group: Tensor) -> Scales:
        """Compute the scales of `group`.

        With a search: those of `group * r`, row by row (or block of rows by block), for the r of `SHRINKS` that gives
        the least sum of `|q - w| ** 2.4` (as the authors of arXiv 2210.17323 do); the first such. Where scales are
        quantized themselves, that comes last.
        """
        scale, zero_point = self._search(group)
        if self.spec.scales is None:
            return self._complete(scale, zero_point, len(group))
        quantized = quantize_scales(scale, self.spec.scales)
        scale = dequantize_scales(quantized, self.spec.scales)
        return replace(self._complete(scale, zero_point, len(group)), quantized=quantized)

    def _search(self, group: Tensor) -> tuple[Tensor, Tensor | None]:
        scale, zero_point = find_scale(group, self.spec)
        if not self._use_mse_search:
            return scale, zero_point
        least = self._error(group, self._complete(scale, zero_point, len(group)))
        for ratio in SHRINKS[1:]:
            tried_scale, tried_zero = find_scale(group * ratio, self.spec)
            error = self._error(group, self._complete(tried_scale, tried_zero, len(group)))
            is_better = (error < least).view(scale.shape)
            least = torch.minimum(error, least)
            scale = torch.where(is_better, tried_scale, scale)
            if zero_point is not None and tried_zero is not None:
                zero_point = torch.where(is_better, tried_zero, zero_point)
        return scale, zero_point

    def _complete(self, scale: Tensor, zero_point: Tensor | None, rows: int) -> Scales:
        step = self._per_row(scale_values(scale, torch.float32), rows)
        offset = None if zero_point is None else self._per_row(zero_point, rows).to(torch.float32)
        return Scales(
            scale=scale,
            zero_point=zero_point,
            factor=step if self._divides else 1.0 / step,
            step=step,
            offset=offset,
        )

    def _error(self, group: Tensor, scales: Scales) -> Tensor:
        """Sum of the errors of every block of rows, float64."""
        error = torch.zeros(len(group), dtype=torch.float64, device=group.device)
        for column in group.unbind(1):
            _, values = self.quantize(column, scales)
            error += (values - column).abs().to(torch.float64).pow(_SEARCH_POWER)
        blocks = torch.arange(len(group), device=group.device) // self.rows
        return error.new_zeros(max(1, scales.scale.numel())).index_add_(0, blocks, error)


class _AffineColumns(_SearchingColumns):
    """Integers: `codes = clamp(round(w / scale) + zero_point)`; all of it exact in float32 but the quotient."""

    def __init__(
        self, spec: QuantSpec, block: tuple[int, int], fmt: IntFormat, device: torch.device, *, use_mse_search: bool
    ) -> None:
        super().__init__(spec, block, use_mse_search=use_mse_search)
        self._kernel = find_kernel(gptq_update.name, device.type)
        is_restricted = fmt.is_signed and spec.int_range is IntRange.RESTRICTED
        self._least, self._most = -fmt.max_code if is_restricted else fmt.min_code, fmt.max_code
        self._fmt, self._dtype = fmt, code_dtype(fmt)

    def quantize(self, column: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """Quantize a column."""
        codes = self._quotient(column, scales).round_()
        if scales.offset is not None:
            codes += scales.offset
        codes.clamp_(self._least, self._most)
        stored = codes.to(self._dtype)
        if scales.offset is not None:
            codes -= scales.offset
        # Where the quotient is -0.3 the code is 0 and its value +0.
        return stored, codes.add_(0.0).mul_(scales.step)

    def quantize_in_turn(self, columns: Tensor, upper: Tensor, scales: Scales) -> tuple[Tensor, Tensor, Tensor] | None:
        """Quantize columns by a kernel of a backend that is fast on their device."""
        kernel = self._kernel
        if kernel is None or columns.dtype is not torch.float32:
            return None
        # It takes a divisor for each row, which decoded elements are multiplied with.
        if not self._divides or scales.factor.shape != columns.shape[1:]:
            return None
        if scales.factor is not scales.step and not torch.equal(scales.factor, scales.step):
            return None
        w, scale = columns.T, scales.step.view(-1, 1)
        zero = None if scales.offset is None else scales.offset.to(torch.int32).view(-1, 1)
        if kernel.why_not(w, upper, scale, self._fmt, zero) is not None:
            return None
        try:
            found = kernel.fn(w, upper, scale, self._fmt, zero, int_range=self.spec.int_range)
        except NanError:
            # Column by column they end in an error that says more.
            return None
        assert isinstance(found, tuple)
        codes, errors = (one.T.contiguous() for one in found[:2])
        values = codes.to(torch.float32)
        if scales.offset is not None:
            values -= scales.offset
        return codes, values.mul_(scales.step), errors


class _Elements:
    """Encodes and decodes elements of one format, with tables that are made once."""

    def __init__(self, to: Encoding, dtype: torch.dtype, device: torch.device) -> None:
        self._to = to
        self._codes = find_table(to, dtype, _TABLE_PAYS, device)
        self._values = value_table(to.fmt, torch.float32, device) if to.fmt.bits <= 8 else None
        self._dtype = code_dtype(to.fmt)

    def encode(self, quotient: Tensor) -> tuple[Tensor, Tensor]:
        """Encode `quotient`, and decode the codes to float32."""
        codes = encode_values(quotient, self._to, self._codes).to(self._dtype)
        return codes, decode_codes(codes, self._to.fmt, torch.float32, self._values)


class _FloatColumns(_SearchingColumns):
    """Floats and codebooks: `codes = encode(w / scale)`."""

    def __init__(self, spec: QuantSpec, block: tuple[int, int], device: torch.device, *, use_mse_search: bool) -> None:
        super().__init__(spec, block, use_mse_search=use_mse_search)
        to = Encoding(fmt=spec.element, rounding=spec.rounding, overflow=spec.overflow, nan=spec.nan)
        self._elements = _Elements(to, torch.float32, device)

    def quantize(self, column: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """Quantize a column."""
        codes, values = self._elements.encode(self._quotient(column, scales))
        return codes, values.mul_(scales.step)


class _BlockColumns(ColumnQuantizer):
    """Block formats: scales are codes, powers of two or, beneath a scale of the tensor, floats of 8 bits."""

    def __init__(self, spec: QuantSpec, block: tuple[int, int], fmt: BlockFormat, weight: Tensor) -> None:
        super().__init__(spec, block)
        self._fmt = fmt
        to = Encoding(
            fmt=fmt.element, rounding=spec.rounding, overflow=spec.overflow, nan=spec.nan, int_range=spec.int_range
        )
        # Division by a power of two is exact in float64, and the float32 of the quotient rounds to the same code: 8
        # bits are told apart by 10, and where float32 has fewer, below 2**-126, every nearest code is zero.
        is_nearest = to.rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY)
        is_narrow = fmt.has_tensor_scale or (fmt.element.bits <= 8 and is_nearest)
        self._dtype = torch.float32 if is_narrow else torch.float64
        self._elements = _Elements(to, self._dtype, weight.device)
        if fmt.has_tensor_scale:
            # It follows from the weights as they are before any of them makes up for the error of another.
            *_, self.tensor_scale = quantize_mx(weight, fmt, axis=spec.axis, rule=spec.rule)

    def scales(self, group: Tensor) -> Scales:
        """Compute the scales of `group`."""
        spec, fmt = self.spec, self._fmt
        _, scale, *_ = quantize_mx(
            group,
            fmt,
            axis=spec.axis,
            rule=spec.rule,
            nan=spec.nan,
            nan_block=spec.nan_block,
            inf_block=spec.inf_block,
            tensor_scale=self.tensor_scale,
        )
        table = value_table(fmt.scale, torch.float32, group.device)
        step = self._per_row(table[scale.to(torch.int64)], len(group))
        if self.tensor_scale is None:
            return Scales(scale=scale, zero_point=None, factor=step.to(torch.float64), step=step)
        if self._divides:
            # A scale that was rounded to zero makes its block zero.
            factor = torch.where(step == 0, torch.inf, step * self.tensor_scale)
        else:
            largest = torch.finfo(torch.float32).max
            factor = torch.where(step == 0, 0.0, (1.0 / self.tensor_scale / step).clamp(max=largest))
        return Scales(scale=scale, zero_point=None, factor=factor, step=step)

    def quantize(self, column: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
        """Quantize a column."""
        if self.tensor_scale is None:
            quotient = (column.to(torch.float64) / scales.factor).to(self._dtype)
            codes, values = self._elements.encode(quotient)
            return codes, values.mul_(scales.step)
        codes, values = self._elements.encode(self._quotient(column, scales))
        return codes, values.mul_(scales.step).mul_(self.tensor_scale)


def column_quantizer(weight: Tensor, spec: QuantSpec, *, use_mse_search: bool = False) -> ColumnQuantizer:
    """Make what quantizes the columns of `weight`, float32 [N, K], as `spec` says.

    Raises:
        UnsupportedError: for stochastic rounding, for integers that are not rounded to nearest even, for a search in a
            block format, for scales that are quantized row by row, and for a scale of the tensor that divides others.
    """
    fmt = spec.fmt
    rows, columns = weight.shape
    if spec.tensor_scale_divides:
        raise UnsupportedError("a scale of the tensor that divides others is for weights that were quantized elsewhere")
    if spec.rounding is Rounding.STOCHASTIC:
        raise UnsupportedError("columns are rounded in an order of their own and take no random bits; round to nearest")
    if isinstance(fmt, BlockFormat):
        if use_mse_search:
            raise UnsupportedError(f"the search shrinks scales that are floats, and those of {fmt.name} are not")
        block = (1, fmt.block_size) if spec.axis % 2 else (fmt.block_size, 1)
        return _BlockColumns(spec, block, fmt, weight)
    if spec.scales is not None and spec.scales.run is not ScaleRun.COLUMNS:
        raise UnsupportedError("the scales of a column are needed before those of the next; use ScaleRun.COLUMNS")
    block_rows, block_columns = spec.granularity.block_shape((rows, columns))
    block = (block_rows, block_columns)
    if isinstance(fmt, IntFormat):
        if spec.rounding is not Rounding.NEAREST_EVEN:
            raise UnsupportedError(f"columns of integers are rounded to nearest even, got {spec.rounding}")
        return _AffineColumns(spec, block, fmt, weight.device, use_mse_search=use_mse_search)
    return _FloatColumns(spec, block, weight.device, use_mse_search=use_mse_search)
