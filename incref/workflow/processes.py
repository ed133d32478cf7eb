"""Processes that share a conversion: each calibrates with calls of its own, and quantizes some of the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from incref.calibration.hessian import Hessian
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Processes"]

T = TypeVar("T")


class Processes:
    """The processes of a group, or this one alone.

    Attributes:
        rank: of this process in the group.
        size: how many there are.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        """Take the processes of `group`; None for this one."""
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)

    def gather(self, value: T) -> list[T]:
        """What every process passes, by rank."""
        if self._group is None:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value, self._group)
        return values  # type: ignore[return-value]  # all are there now

    def add_up(self, hessian: Hessian, owner: int) -> None:
        """Make `hessian`, in the process of rank `owner`, the sum of what all have; the sums are exact."""
        if self._group is None:
            return
        facts = self.gather((sorted(hessian.sums), hessian.tokens, hessian.runs, hessian.is_finite))
        for unit in sorted({unit for units, *_ in facts for unit in units}):
            part = hessian.sums.pop(unit, None)
            if part is None:
                part = torch.zeros(hessian.shape, dtype=torch.int64, device=hessian.device)
            dist.reduce(part, dist.get_global_rank(self._group, owner), dist.ReduceOp.SUM, self._group)
            if self.rank == owner:
                hessian.sums[unit] = part
        hessian.tokens = sum(tokens for _, tokens, _, _ in facts)
        hessian.runs = sum(runs for _, _, runs, _ in facts)
        hessian.require_few_runs()
        hessian.is_finite = all(is_finite for *_, is_finite in facts)

    def share(self, qweight: QTensor | None, owner: int, device: torch.device) -> QTensor:
        """Give all processes the weight that the one of rank `owner` passes."""
        if self._group is None:
            assert qweight is not None
            return qweight
        source = dist.get_global_rank(self._group, owner)
        described: list[tuple[dict[str, tuple[torch.dtype, tuple[int, ...]]], Json] | None] = [None]
        if qweight is not None:
            shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in qweight.to_tensors().items()}
            described = [(shapes, qweight.metadata())]
        dist.broadcast_object_list(described, source, self._group)
        assert described[0] is not None
        shapes, metadata = described[0]
        own = {} if qweight is None else qweight.to_tensors()
        tensors: dict[str, Tensor] = {}
        for name, (dtype, shape) in shapes.items():
            tensor = own[name].to(device).contiguous() if own else torch.empty(shape, dtype=dtype, device=device)
            dist.broadcast(tensor, source, self._group)
            tensors[name] = tensor
        return QTensor.from_tensors(tensors, metadata)
