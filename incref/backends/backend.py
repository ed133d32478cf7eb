"""A backend is a table of kernels, one for each operation that it implements."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from incref.backends.declared import ANY_ORDER, Declared
from incref.formats.layouts import PackLayout

__all__ = ["Backend", "Kernel", "Prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A kernel of a matrix product that has its weight, in whatever layout it reads.

    A layer keeps one and calls it with what it learns in a call, so nothing is looked up or repacked there.

    Attributes:
        run: takes `(*tensors, x, ...)`, where what follows `x` is the rest of the operation's arguments, by keyword:
            scales and zero points of `x`, `bias` and `dtype`.
        tensors: what the kernel reads of the weight; they are moved and copied with the layer.
        why_not: takes the same arguments; the reason why `run` can't take them, or None if it can.
        takes_order: whether `run` takes `x` as it is, though the weight holds the columns in another order.
        with_scale: takes the one scale that every `x` has, and gives a kernel that knows it; None where that is no use.
        why_not_now: the reason why `run` can't be called as things are now, whatever the arguments, or None if it can.
            It is asked in every call, but not when a layer is bound, whose model may yet be compiled. None for a kernel
            that always can.
    """

    run: Callable[..., Tensor]
    tensors: tuple[Tensor | None, ...]
    why_not: Callable[..., str | None]
    takes_order: bool = False
    with_scale: "Callable[[Tensor], Prepared] | None" = None
    why_not_now: Callable[[], str | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One implementation of an operation.

    Attributes:
        fn: takes the arguments of the operation and returns what its reference returns.
        why_not: takes the same arguments; the reason why `fn` can't take them, or None if it can.
        prepare: for a product with a weight that stays: takes an `incref.ops.weight.Weight`, and options of the
            operation that stay too; gives a `Prepared` kernel, or the reason why there is none. None for a kernel that
            reads the weight as its operation has it.
        accumulator: for operations that add products of floats: what is known of how they are added, or a function that
            says it of a device. It holds for all arguments that `why_not` does not decline.
        layouts: how the words of weights may be packed that `prepare` is given; the first is what others become.
        with_scales: takes scales that every call will have, each the one of its tensor, by the names of the operation's
            arguments; gives a kernel that knows them. None where that is no use.
        is_traceable: whether `fn` is made of PyTorch's own operations, though its backend is opaque.
    """

    fn: Callable[..., object]
    why_not: Callable[..., str | None]
    prepare: Callable[..., Prepared | str] | None = None
    accumulator: Declared | Callable[[torch.device], Declared] = ANY_ORDER
    layouts: Sequence[PackLayout] = (PackLayout.DENSE,)
    with_scales: "Callable[..., Kernel] | None" = None
    is_traceable: bool = False

    def accumulator_on(self, device: torch.device) -> Declared:
        """What is known of how a device adds."""
        return self.accumulator(device) if callable(self.accumulator) else self.accumulator


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A named table of kernels.

    Attributes:
        name: what `Op.on` is given.
        why_unavailable: the reason why this machine can't run the kernels, or None if it can.
        kernels: by name of the operation.
        devices: types of devices that it is fast on: layers there get its kernels without being told.
        is_opaque: whether `torch.compile` can't look into its kernels; then a graph holds the operator
            `torch.ops.incref.<operation>_<name>`, which finds the backend by its name.
        home: where tensors have to be for its kernels, if it matters where a model is put: the name of a device.
        settle: what is done to a model that was put there, before it computes.
    """

    name: str
    why_unavailable: Callable[[], str | None]
    kernels: Mapping[str, Kernel]
    devices: Collection[str] = ()
    home: Callable[[], str] | None = None
    settle: Callable[[nn.Module], None] | None = None
    is_opaque: bool = False

    def with_scales(self, op: str, **scales: Tensor | None) -> "Backend":
        """Give the backend whose kernel of the operation `op` knows these scales, where that is of use.

        Args:
            op: name of the operation.
            scales: float32 [] each, by the names of its arguments; they have their values: none may be on "meta". None
                for a scale that is not known, and then none is.
        """
        kernel = self.kernels.get(op)
        known = {name: scale for name, scale in scales.items() if scale is not None and not scale.is_meta}
        if kernel is None or kernel.with_scales is None or len(known) < len(scales):
            return self
        return replace(self, kernels={**self.kernels, op: kernel.with_scales(**known)})

    def keeps_whole(self, kernel: Kernel) -> bool:
        """Whether a graph holds a call of `kernel` as an operator."""
        return self.is_opaque and not kernel.is_traceable
