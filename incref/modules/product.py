"""Which kernel multiplies the input of a linear layer with its weight.

A layer with a quantized weight computes one of these operations. Its reference path dequantizes the weight, and its
input if that is quantized, and lets PyTorch multiply them, which sums in float32 or wider in an order of its own;
products of integers are `int8_matmul` itself.

| input | weight | operation | the kernel multiplies what the reference path does |
| --- | --- | --- | --- |
| integers | integers, scales not along K | `int8_matmul` | always; all bits are equal |
| blocks | blocks | `mx_matmul` | if no tensor has a scale, and the dtype of x holds the values |
| 8-bit floats | 8-bit floats | `fp8_matmul` | if all scales are powers of two |
| any other, or none | any | `weight_only_matmul`, of the dequantized input | always |

Where the last column does not hold, the reference path rounds `code * scale` to the dtype of x before it multiplies,
and the operation scales sums of codes. A backend that is named computes the operation; one that is chosen ("auto")
multiplies what the reference path does, by `weight_only_matmul` if need be, so that only the sums of floats may
differ, within what the backend declares of its accumulator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from incref.backends.backend import Backend, Prepared
from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.formats import FORMATS, BlockFormat, CodebookFormat, FloatFormat, IntFormat
from incref.modules.integer import as_int8
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_group
from incref.ops.contract import Op
from incref.ops.decode import decode
from incref.ops.fp8_matmul import fp8_matmul
from incref.ops.int8_matmul import int8_matmul
from incref.ops.mx_matmul import mx_matmul
from incref.ops.weight import Weight, prepare
from incref.ops.weight_only_matmul import weight_only_matmul
from incref.qtensor.parts import Parts, quantize_parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["LinearInput", "Product", "find_product"]


@dataclass(frozen=True, kw_only=True)
class LinearInput:
    """What a linear layer does to its input, as far as it matters to a product.

    Attributes:
        activation: how it is quantized; None not at all.
        scale_method: how a scale is found in every call; None for the rule of `activation`.
        scale: a static one, or None.
        zero_point: the one that goes with it, or None.
        multiplies_integers: whether integers are multiplied.
    """

    activation: QuantSpec | None
    scale_method: MaxAbsScale | None
    scale: Tensor | None
    zero_point: Tensor | None
    multiplies_integers: bool

    @property
    def has_scales_of_two(self) -> bool:
        """Whether all scales are powers of two."""
        if self.scale is not None:
            return _are_powers_of_two(self.scale)
        if self.scale_method is not None:
            return self.scale_method.value is not ScaleValue.ANY
        return self.activation is not None and self.activation.rule.is_power_of_two


@dataclass(frozen=True, kw_only=True)
class Product:
    """A kernel with the weight of a layer.

    Attributes:
        backend: its name.
        op: the operation that it computes.
        prepared: the kernel.
        activation: how the input is quantized whose codes are multiplied; None for values.
        order: int64; where the kernel needs the columns of the input in another order, the column of each; or None.
    """

    backend: str
    op: str
    prepared: Prepared
    activation: QuantSpec | None
    order: Tensor | None

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor | str:
        """Multiply values x [..., K]; give the reason if the kernel can't."""
        return self._run(x, {"bias": bias})

    def multiply_codes(self, x: Parts, bias: Tensor | None, dtype: torch.dtype) -> Tensor | str:
        """Multiply codes; give the reason if the kernel can't."""
        return self._run(x.codes, {**_of_codes(self.op, x, self.activation), "bias": bias, "dtype": dtype})

    def _run(self, x: Tensor, rest: dict[str, object]) -> Tensor | str:
        prepared = self.prepared
        if prepared.why_not_now is not None and (reason := prepared.why_not_now()) is not None:
            return reason
        if self.order is not None:
            x = x.index_select(-1, self.order)
        reason = prepared.why_not(*prepared.tensors, x, **rest)
        return reason or prepared.run(*prepared.tensors, x, **rest)


def _of_codes(op: str, x: Parts, activation: QuantSpec | None) -> dict[str, object]:
    """The arguments of an operation that belong to the codes of its input."""
    assert activation is not None
    if op == "mx_matmul":
        return {"x_scale": x.scale, "x_tensor_scale": x.tensor_scale, "x_fmt": activation.fmt}
    scaled: dict[str, object] = {"x_scale": x.scale, "x_granularity": activation.granularity}
    if op == "fp8_matmul":
        return {**scaled, "x_fmt": activation.fmt}
    return {**scaled, "x_zero_point": x.zero_point}


def find_product(qweight: QTensor, given: LinearInput, backend: Backend, *, same_factors: bool) -> Product | str:
    """Find the kernel of `backend` that computes what a linear layer means.

    Args:
        qweight: [N, K].
        given: what the layer does to its input.
        backend: whose kernels are asked, from the first row of the table that applies to the last.
        same_factors: whether the kernel has to multiply what the reference path does.

    Returns:
        The first that has nothing against a call with a row of zeros, or all reasons.
    """
    reasons = []
    for op, weight, activation in _readings(qweight, given, same_factors=same_factors):
        prepared = prepare(op, backend, weight)
        if isinstance(prepared, str):
            reasons.append(f"{op.name}: {prepared}")
            continue
        if given.scale is not None and activation is not None and prepared.with_scale is not None:
            prepared = prepared.with_scale(given.scale)
        order = None if prepared.takes_order else weight.order
        product = Product(backend=backend.name, op=op.name, prepared=prepared, activation=activation, order=order)
        reason = _why_not(product, qweight, given)
        if reason is None:
            return product
        reasons.append(f"{op.name}: {reason}")
    return "; ".join(reasons) or f"no operation multiplies by {qweight.spec}"


def _why_not(product: Product, qweight: QTensor, given: LinearInput) -> str | None:
    """Ask the kernel whether it takes what the layer will be called with."""
    x = torch.zeros(1, qweight.shape[1], dtype=qweight.dtype, device=qweight.device)
    rest: dict[str, object] = {}
    if product.activation is not None:
        parts = quantize_parts(x, product.activation, given.scale, given.zero_point)
        x, rest = parts.codes, {**_of_codes(product.op, parts, product.activation), "dtype": qweight.dtype}
    return product.prepared.why_not(*product.prepared.tensors, x, **rest)


def _readings(
    qweight: QTensor, given: LinearInput, *, same_factors: bool
) -> Iterator[tuple[Op[..., Tensor], Weight, QuantSpec | None]]:
    """What the layer may be read as: an operation, its weight, and how its input is quantized if it takes codes."""
    activation = given.activation
    if given.multiplies_integers:
        yield int8_matmul, _integers(qweight), activation
        return
    weight = _weight(qweight)
    if weight is None:
        return
    if activation is not None and _along_rows(activation) and qweight.order is None:
        one, other = activation.fmt, weight.fmt
        has_tensor_scale = any(isinstance(fmt, BlockFormat) and fmt.has_tensor_scale for fmt in (one, other))
        if isinstance(one, BlockFormat) and isinstance(other, BlockFormat) and not (same_factors and has_tensor_scale):
            yield mx_matmul, weight, activation
        has_scales_of_two = given.has_scales_of_two and _are_powers_of_two(weight.scale)
        if _is_float8(one) and _is_float8(other) and (has_scales_of_two or not same_factors):
            yield fp8_matmul, weight, activation
    yield weight_only_matmul, weight, None


def _along_rows(spec: QuantSpec) -> bool:
    """Whether blocks lie along the last dimension, as operations have them."""
    return not isinstance(spec.fmt, BlockFormat) or spec.axis == -1


def _is_float8(fmt: object) -> bool:
    return isinstance(fmt, CodebookFormat) or (isinstance(fmt, FloatFormat) and fmt.bits <= 8)


def _integers(qweight: QTensor) -> Weight:
    w = as_int8(qweight.parts)
    granularity = PER_TOKEN if w.scale.ndim else PER_TENSOR
    return Weight(
        words=w.codes,
        scale=w.scale,
        zero_point=w.zero_point,
        fmt=FORMATS["int8"],
        granularity=granularity,
        shape=(w.codes.shape[0], w.codes.shape[1]),
        order=_order(qweight),
    )


def _weight(qweight: QTensor) -> Weight | None:
    """The weight as operations have it; None for codes that none multiplies."""
    spec, shape = qweight.spec, (qweight.shape[0], qweight.shape[1])
    fmt, words = spec.fmt, qweight.packed
    if isinstance(fmt, BlockFormat):
        if spec.axis not in (-1, 1):
            return None
        weight = Weight(
            words=words,
            scale=qweight.scale,
            tensor_scale=qweight.tensor_scale,
            fmt=fmt,
            shape=shape,
            order=_order(qweight),
        )
        if not spec.tensor_scale_divides:
            return weight
        assert qweight.tensor_scale is not None
        scale = decode(qweight.scale, fmt.scale, dtype=torch.float32) / qweight.tensor_scale
        group = per_group(fmt.block_size)
        return replace(weight, scale=scale, tensor_scale=None, fmt=fmt.element, granularity=group)
    if isinstance(fmt, IntFormat) and fmt.fraction_bits:
        return None
    if fmt.bits > 8:
        return None
    return Weight(
        words=words,
        scale=qweight.block_scale,
        zero_point=qweight.block_zero_point,
        fmt=fmt,
        granularity=spec.granularity,
        shape=shape,
        order=_order(qweight),
        layout=qweight.layout,
    )


def _order(qweight: QTensor) -> Tensor | None:
    return None if qweight.order is None else qweight.order.to(torch.int64)


def _are_powers_of_two(scale: Tensor) -> bool:
    """Whether all are; codes of E8M0 always."""
    if scale.dtype is torch.uint8:
        return True
    return bool((torch.frexp(scale).mantissa == 0.5).all())
