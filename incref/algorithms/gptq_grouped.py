"""GPTQ for a convolution with groups: the channels of each group see inputs of their own."""

import torch
from torch import Tensor

from incref.algorithms.columns import column_quantizer
from incref.algorithms.gptq import GPTQResult, gptq
from incref.config.method import GPTQ
from incref.errors import UnsupportedError
from incref.qtensor.parts import Parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec

__all__ = ["gptq_grouped"]


def gptq_grouped(weight: Tensor, hessians: Tensor, spec: QuantSpec, method: GPTQ) -> GPTQResult:
    """Quantize the rows of `weight`, in equal parts, each by a Hessian of its own.

    Args:
        weight: [N, K], as in `gptq`.
        hessians: [groups, K, K], float64 or float32; `groups` divides N.
        spec: how weights are quantized.
        method: as in `gptq`.

    Returns:
        What `gptq` gives for each part, put together; a scale of the whole tensor is that of all of `weight`. `factor`
        is that of the first part whose damping was raised, or else of the first.

    Raises:
        UnsupportedError: if parts would have orders of their own, or rows share a scale or the step of a scale.
    """
    parts = weight.chunk(len(hessians))
    quantizer = column_quantizer(weight.to(torch.float32), spec, use_mse_search=method.use_mse_search)
    results = [gptq(part, h, spec, method, quantizer=quantizer) for part, h in zip(parts, hessians, strict=True)]
    found = [result.qweight.parts for result in results]
    if any(result.qweight.order is not None for result in results):
        raise UnsupportedError("groups of channels would each have an order of columns; set static_groups=True")
    if quantizer.rows != 1 or found[0].scale.ndim == 0:
        raise UnsupportedError(f"groups of channels need scales for every row, got {spec}")
    if spec.scales is not None:
        raise UnsupportedError("groups of channels would share the steps of their scales; leave them in float32")
    zero_points = [one.zero_point for one in found if one.zero_point is not None]
    joined = Parts(
        codes=torch.cat([one.codes for one in found]),
        scale=torch.cat([one.scale for one in found]),
        zero_point=torch.cat(zero_points) if zero_points else None,
        tensor_scale=quantizer.tensor_scale,
    )
    raised = [result.factor for result in results if result.factor.is_raised]
    return GPTQResult(
        qweight=QTensor.from_parts(joined, spec, weight.dtype),
        loss=sum(result.loss for result in results),
        factor=raised[0] if raised else results[0].factor,
    )
