"""Options of blocks: what a launcher makes of them, and what it refuses."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.formats import BlockFormat, ScaleRule
from incref.numerics.codes import code_dtype

__all__ = ["require_blocks", "require_tensor_scale", "scale_rule"]


def scale_rule(fmt: BlockFormat, rule: ScaleRule | None) -> ScaleRule:
    """Put the default for None, and refuse rules of the other kind."""
    rule = rule or (ScaleRule.DIVIDE if fmt.has_tensor_scale else ScaleRule.FLOOR)
    if fmt.has_tensor_scale and rule is not ScaleRule.DIVIDE:
        raise ValueError(f"{fmt.name} takes the rule DIVIDE only, got {rule}")
    if not fmt.has_tensor_scale and not rule.is_power_of_two:
        raise ValueError(f"{fmt.name} has scales that are powers of two; use FLOOR, CEIL, EVEN or RCEIL, got {rule}")
    return rule


def require_tensor_scale(
    x: Tensor, fmt: BlockFormat, given: Tensor | None, find: Callable[[Tensor, float], Tensor]
) -> Tensor | None:
    """Check the scale of the tensor that is given, or find it where the format has one."""
    if not fmt.has_tensor_scale:
        if given is not None:
            raise ValueError(f"{fmt.name} has no tensor_scale")
        return None
    if x.dtype is torch.float64:
        raise TypeError(f"{fmt.name} is computed in float32 and takes no float64; round x first")
    if given is None:
        return find(x, fmt.element.qmax * fmt.scale.qmax)
    if given.dtype is not torch.float32 or given.shape != ():
        raise ValueError(f"tensor_scale must be torch.float32 of shape (), got {given.dtype} of {tuple(given.shape)}")
    return given


def require_blocks(codes: Tensor, scale: Tensor, fmt: BlockFormat, axis: int, tensor_scale: Tensor | None) -> None:
    """Refuse codes and scales of blocks that the reference refuses."""
    if codes.dtype is not code_dtype(fmt.element):
        raise TypeError(f"element codes of {fmt.name} must be {code_dtype(fmt.element)}, got {codes.dtype}")
    if scale.dtype is not torch.uint8:
        raise TypeError(f"scale codes of {fmt.name} must be torch.uint8, got {scale.dtype}")
    if fmt.has_tensor_scale != (tensor_scale is not None):
        raise ValueError(f"{fmt.name} {'needs a' if fmt.has_tensor_scale else 'has no'} tensor_scale")
    blocks = -(-codes.shape[axis] // fmt.block_size)
    wanted = (*codes.shape[:axis], blocks, *codes.shape[axis + 1 :])
    if tuple(scale.shape) != wanted:
        raise ValueError(
            f"the scale of codes of shape {tuple(codes.shape)} in blocks of {fmt.block_size} along axis {axis} must "
            f"have the shape {wanted}, got {tuple(scale.shape)}"
        )
