"""The weight of a matrix product that stays, and kernels that are prepared with it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from incref.backends.backend import Backend, Kernel, Prepared
from incref.formats import BlockFormat, ElementFormat, Format
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.ops.contract import Op
from incref.ops.operator import GraphCall, in_graph
from incref.ops.packed_codes import pack_codes, unpack_codes

__all__ = ["Weight", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A quantized matrix.

    Attributes:
        words: its codes, those of fewer than 8 bits packed as `layout` says, others one an element.
        scale: of every block, as operations take it.
        zero_point: int32, in the shape of `scale`, or None.
        tensor_scale: float32 (), of formats that have it, or None.
        fmt: of the codes.
        granularity: which elements share a scale; a block format has its own, along K.
        shape: (N, K).
        order: int64 [K]; where codes hold the columns in another order than the input, the column of each; or None.
        layout: DENSE along K; or HPU, words [K, N / 8] along N.
    """

    words: Tensor
    scale: Tensor
    zero_point: Tensor | None = None
    tensor_scale: Tensor | None = None
    fmt: Format
    granularity: Granularity = PER_TENSOR
    shape: tuple[int, int]
    order: Tensor | None = None
    layout: PackLayout = PackLayout.DENSE

    @property
    def element(self) -> ElementFormat:
        """Format of a code."""
        return self.fmt.element if isinstance(self.fmt, BlockFormat) else self.fmt

    def codes(self) -> Tensor:
        """One code in an element, [N, K]."""
        return unpack_codes(self.words, self.element, self.shape, self.layout)

    def in_layout(self, layouts: Collection[PackLayout]) -> "Weight":
        """The same weight in one of `layouts`, packed again if it has to be."""
        if self.layout in layouts:
            return self
        layout = next(iter(layouts))
        return replace(self, words=pack_codes(self.codes(), self.element, layout), layout=layout)


def prepare(op: Op[..., Tensor], backend: Backend, weight: Weight) -> Prepared | str:
    """Prepare the kernel of `backend` for `op` with a weight.

    Args:
        op: `weight_only_matmul`, `int8_matmul`, `fp8_matmul` or `mx_matmul`.
        backend: its kernel is asked, or is given codes one in an element.
        weight: what stays.

    Returns:
        What computes the product, or the reason why the backend can't.
    """
    kernel = backend.kernels.get(op.name)
    if kernel is None:
        return "it has no kernel for that"
    if kernel.prepare is not None:
        return kernel.prepare(weight.in_layout(kernel.layouts))
    names, options = _arguments(op, weight)
    whole = in_graph(op, backend.name, kernel.fn, None) if backend.keeps_whole(kernel) else None
    call = _Call(kernel=kernel, whole=whole, names=tuple(names.values()), options=options)
    tensors = {"scale": weight.scale, "zero_point": weight.zero_point, "tensor_scale": weight.tensor_scale}
    return Prepared(
        run=call.run,
        tensors=(weight.codes(), *(tensors[field] for field in names)),
        why_not=call.why_not,
    )


def _arguments(op: Op[..., Tensor], weight: Weight) -> tuple[dict[str, str], dict[str, object]]:
    """What an operation calls the tensors of a weight beside its codes, and the options that say what these mean."""
    if op.name == "weight_only_matmul":
        names = {field: field for field in ("scale", "zero_point", "tensor_scale")}
        return names, {"fmt": weight.fmt, "granularity": weight.granularity}
    if op.name == "int8_matmul":
        return {"scale": "w_scale", "zero_point": "w_zero_point"}, {"w_granularity": weight.granularity}
    if op.name == "fp8_matmul":
        return {"scale": "w_scale"}, {"w_fmt": weight.fmt, "w_granularity": weight.granularity}
    return {"scale": "w_scale", "tensor_scale": "w_tensor_scale"}, {"w_fmt": weight.fmt}


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A kernel that is called with the tensors of its weight and x, the last of them.

    Attributes:
        kernel: that is called.
        whole: what stands for it in a graph; None for itself.
        names: what the operation calls the tensors of a weight beside its codes.
        options: what says what these mean.
    """

    kernel: Kernel
    whole: GraphCall | None
    names: tuple[str, ...]
    options: Mapping[str, object]

    def run(self, *tensors: Tensor | None, **rest: object) -> Any:  # noqa: ANN401  # what the kernel gives
        codes, *others, x = tensors
        whole = self.whole if torch.compiler.is_compiling() else None
        named = dict(zip(self.names, others, strict=True))
        return (whole or self.kernel.fn)(x, codes, **named, **self.options, **rest)

    def why_not(self, *tensors: Tensor | None, **rest: object) -> str | None:
        codes, *others, x = tensors
        given = {**dict(zip(self.names, others, strict=True)), **self.options, **rest}
        if self.whole is not None and torch.compiler.is_compiling():
            reason = self.whole.why_not(x, codes, **given)
            if reason is not None:
                return reason
        return self.kernel.why_not(x, codes, **given)
