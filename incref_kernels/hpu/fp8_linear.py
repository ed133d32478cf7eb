"""`fp8_linear`: a linear layer to train, whose products are of E4M3 on the way forward and of E5M2 on the way back.

The factors of a product have one format, since Gaudi 2 has no product of two. So what the way back multiplies again,
the input and the weight, is cast to both formats at once, by `cast_to_fp8_hybrid`; the gradient of the bias is a sum of
codes, `sum_fp8`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from incref.numerics.scaled_matmul import as_rows
from incref_kernels.hpu.gemm import gemm
from incref_kernels.hpu.required import require_scales, require_values

__all__ = ["LinearScales", "fp8_linear"]


@dataclass(frozen=True, kw_only=True)
class LinearScales:
    """What the codes of every tensor are multiplied with, float32 [] each.

    Attributes:
        x: of the input in E4M3.
        w: of the weight in E4M3.
        x_back: of the input in E5M2.
        w_back: of the weight in E5M2.
        grad: of the gradient of the output, in E5M2.
    """

    x: Tensor
    w: Tensor
    x_back: Tensor
    w_back: Tensor
    grad: Tensor


def fp8_linear(x: Tensor, w: Tensor, bias: Tensor | None, scales: LinearScales) -> Tensor:
    """Compute `x @ w.T + bias` of 8-bit floats, and its gradients likewise.

    Every tensor becomes codes by one cast, which multiplies with the reciprocal of its scale (in float32) and rounds in
    the dtype of the tensor, and then once more to the format, saturating. Products are `fp8_matmul` of codes.

    Args:
        x: float32 or bfloat16 [..., K].
        w: [N, K], of the same dtype.
        bias: [N], of the same dtype, or None.
        scales: of all tensors.

    Returns:
        [..., N] in the dtype of x: the sum times the product of both scales, plus the bias. On the way back, `g` being
        the codes of the gradient:
        * of x `(g @ w) * (grad * w_back)`, of w `(g.T @ x) * (grad * x_back)`, each in float32 and rounded once;
        * of the bias `sum(g) * grad`: the sum is rounded to float32, the product there, and then to its dtype.

    Raises:
        UnsupportedError: if there is no Gaudi and no simulation of one, or a tensor is elsewhere.
        TypeError: for another dtype.
        ValueError: for another shape.
    """
    require_values(x=x, w=w, **({} if bias is None else {"bias": bias}))
    require_scales(x=scales.x, w=scales.w, x_back=scales.x_back, w_back=scales.w_back, grad=scales.grad)
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[1] or (bias is not None and bias.shape != w.shape[:1]):
        raise ValueError(
            f"x must be [..., K], w [N, K] and bias [N], got {tuple(x.shape)}, {tuple(w.shape)} and "
            f"{None if bias is None else tuple(bias.shape)}"
        )
    y: Tensor = _Linear.apply(x, w, bias, scales)  # type: ignore[no-untyped-call]  # untyped in torch
    return y


class _Linear(torch.autograd.Function):
    """The two ways; what lies between them is kept in 8 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, scales: LinearScales) -> Tensor:  # noqa: ANN401  # torch's own
        hpu = torch.ops.hpu
        rows = as_rows(x)
        x_back, x_codes, _ = hpu.cast_to_fp8_hybrid(rows, scales.x_back.reciprocal(), scales.x.reciprocal())
        w_back, w_codes, _ = hpu.cast_to_fp8_hybrid(w, scales.w_back.reciprocal(), scales.w.reciprocal())
        ctx.save_for_backward(x_back, w_back)
        ctx.scales, ctx.shape, ctx.has_bias = scales, x.shape, bias is not None
        y = gemm(x_codes, w_codes, scales.x, scales.w, x.dtype, transposes_b=True, bias=bias)
        return y.view(*x.shape[:-1], w.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401  # torch's own
        hpu, scales = torch.ops.hpu, ctx.scales
        x_back, w_back = ctx.saved_tensors
        factor = scales.grad.reciprocal()
        codes = hpu.cast_to_fp8_v2(as_rows(grad), factor, False, False, torch.float8_e5m2)[0]  # noqa: FBT003  # as declared
        of_x = of_w = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = gemm(codes, w_back, scales.grad, scales.w_back, grad.dtype).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_w = gemm(codes, x_back, scales.grad, scales.x_back, grad.dtype, transposes_a=True)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = (hpu.sum_fp8(codes, [0], False, torch.float32) * scales.grad).to(grad.dtype)  # noqa: FBT003
        return of_x, of_w, of_bias, None
