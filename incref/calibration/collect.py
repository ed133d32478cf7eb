"""Collects statistics of what layers are fed while something runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from threading import Lock, local

import torch
from torch import Tensor, nn

from incref.calibration.hessian import Hessian
from incref.calibration.seen import SeenTensor

__all__ = ["HessianCollector", "Transform"]

Transform = Callable[[Tensor], Tensor]
"""What a layer does to its input before it multiplies; two that are equal do the same."""

_MOST_PENDING = 2


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A tensor that was fed to some layers, and may be fed to more.

    Attributes:
        seen: the tensor.
        copied: its values, for the model may write to the tensor.
        transform: what the layers do to it first.
        groups: how many Hessians it has.
        names: of the layers, in the order of their calls.
    """

    seen: SeenTensor
    copied: Tensor
    transform: Transform | None
    groups: int
    names: list[str]


class HessianCollector:
    """Sums up the Hessian of every layer until it is detached.

    A tensor that several layers are fed, such as the projections of attention, is multiplied once for all of them:
    there is a sum for every set of layers that got something together. Layers may be called in several threads at the
    same time, each of which has to flush what it was fed.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        transforms: Mapping[str, Transform] | None = None,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        """Hook into `layers`.

        Args:
            layers: by name.
            transforms: for layers that don't multiply their input as it is, how it becomes [..., K].
            groups: for layers with several Hessians, how many; their transforms give [..., groups, K].
        """
        self._transforms, self._groups = transforms or {}, groups or {}
        self._here = local()
        self._lock = Lock()
        self._sums: dict[tuple[str, ...], Hessian] = {}
        self._handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in layers.items()]

    @property
    def fed_together(self) -> list[list[str]]:
        """Names of the layers that were called, grouped by what they got the same tensor; in the order of the calls."""
        groups: list[list[str]] = []
        for names in self._sums:
            new = [name for name in names if not any(name in group for group in groups)]
            if new:
                groups.append(new)
        return groups

    @property
    def sets(self) -> list[tuple[str, ...]]:
        """The sets of layers that got something together; there is a sum for each."""
        return list(self._sums)

    def take(self, sets: Collection[tuple[str, ...]], later: Collection[tuple[str, ...]] = ()) -> Hessian | None:
        """Add up the sums of `sets`; those that are not needed `later` are given away. None if there is none."""
        found = [(self._sums[one] if one in later else self._sums.pop(one)) for one in sets if one in self._sums]
        if len(found) == 1 and not any(one in later for one in sets):
            return found[0]
        if not found:
            return None
        merged = Hessian(found[0].shape[-1], found[0].device, found[0].groups)
        for one in found:
            merged.merge(one)
        return merged

    def flush(self) -> None:
        """Count what is pending in this thread; to be called when a run is over."""
        while pending := self._pending:
            self._count(pending.pop(0))

    def detach(self) -> None:
        """Stop to collect, with what is pending in this thread counted."""
        self.flush()
        while self._handles:
            self._handles.pop().remove()

    @property
    def _pending(self) -> list[_Pending]:
        """What was fed to layers in this thread, and is not counted yet."""
        found: list[_Pending] = self._here.__dict__.setdefault("pending", [])
        return found

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            self._see(name, args[0].detach())

        return hook

    @torch.no_grad()
    def _see(self, name: str, x: Tensor) -> None:
        transform = self._transforms.get(name)
        for pending in self._pending:
            if pending.seen.is_still(x) and pending.transform == transform and name not in pending.names:
                pending.names.append(name)
                return
        if len(self._pending) >= _MOST_PENDING:
            self._count(self._pending.pop(0))
        self._pending.append(
            _Pending(
                seen=SeenTensor.now(x),
                copied=x.clone(),
                transform=transform,
                groups=self._groups.get(name, 1),
                names=[name],
            )
        )

    @torch.no_grad()
    def _count(self, pending: _Pending) -> None:
        # Only now is it known which sum it belongs to: a sum of its own would take more memory than its values.
        x, names = pending.copied, tuple(pending.names)
        rows = x if pending.transform is None else pending.transform(x)
        with self._lock:
            if names not in self._sums:
                self._sums[names] = Hessian(rows.shape[-1], x.device, pending.groups)
        self._sums[names].add(rows)
