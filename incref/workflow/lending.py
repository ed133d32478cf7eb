"""Values for a model on the meta device, read from files while a part of it runs."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.checkpoints.shards import TensorFiles
from incref.errors import CheckpointError
from incref.workflow.heap import trim_heap

__all__ = ["Lender"]


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """Where a module holds a tensor that has no values.

    Attributes:
        module: the module.
        key: what the module calls it.
        empty: the tensor on the meta device.
        source: what the files call its values.
    """

    module: nn.Module
    key: str
    empty: Tensor
    source: str

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Where the module keeps it."""
        # Not by attributes: assigning would register.
        parameters, buffers = self.module._parameters, self.module._buffers  # noqa: SLF001
        return parameters if self.key in parameters else buffers  # type: ignore[return-value]  # this one is not None

    @property
    def is_empty(self) -> bool:
        """Whether the module still holds the tensor without values."""
        return self.tensors.get(self.key) is self.empty


class Lender:
    """Gives the parts of a model their values while they run, so that only one part is in memory at a time.

    Parts are the blocks that the model is a chain of, and outside of them every module with tensors of its own. A part
    is lent copies of its values; they have the dtype that the model has on the meta device.
    """

    def __init__(self, model: nn.Module, path: Path, blocks: Sequence[str]) -> None:
        """Prepare to lend `model` the tensors that are on the meta device.

        Raises:
            CheckpointError: if the files lack one of them, or hold it in another shape.
            ValueError: if there are none.
        """
        self.path, self.shards = path, TensorFiles.find(path)
        self._blocks = list(blocks)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._slots = self._find_slots(model)
        if not self._slots:
            raise ValueError(
                f"all tensors of the model have values, and none is to be read from {path}; leave model_path empty, or "
                "make the model on the meta device"
            )

    def attach(self, model: nn.Module) -> None:
        """Lend every part of `model`, or of a copy, its values whenever it is called."""
        self._slots = self._find_slots(model)
        blocks = [model.get_submodule(name) for name in self._blocks]
        inside = {module for block in blocks for module in block.modules()}
        parts = {block: self._slots_in(block) for block in blocks}
        for slot in self._slots:
            if slot.module not in inside:
                parts.setdefault(slot.module, []).append(slot)
        for part, slots in parts.items():
            self._hook(part, slots)

    def detach(self) -> None:
        """Stop to lend at calls."""
        while self._handles:
            self._handles.pop().remove()

    @contextmanager
    def lend(self, module: nn.Module) -> Iterator[None]:
        """Give `module` the values that it lacks, until the block ends; what was put in place of its parts stays.

        Memory that is free by then is handed back to the system.
        """
        filled = self._fill(self._slots_in(module))
        try:
            yield
        finally:
            _take_back(filled)
            trim_heap()

    @contextmanager
    def lending(self, model: nn.Module) -> Iterator[None]:
        """Lend every part of `model` its values whenever it is called, until the block ends."""
        self.attach(model)
        try:
            yield
        finally:
            self.detach()

    def keep(self, model: nn.Module) -> None:
        """Give `model` all values that it lacks, for good; those of its own dtype stay in the files until looked at.

        Layers that others have taken the place of get none.
        """
        found: dict[Tensor, Tensor] = {}
        for slot in self._slots_in(model):
            if slot.is_empty:
                if slot.empty not in found:
                    found[slot.empty] = self._read(slot, copy=False)
                slot.tensors[slot.key] = found[slot.empty]

    def _find_slots(self, model: nn.Module) -> list[_Slot]:
        names: dict[Tensor, list[str]] = {}
        held: list[tuple[nn.Module, str, Tensor]] = []
        for prefix, module in model.named_modules():
            for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if tensor.is_meta:
                    names.setdefault(tensor, []).append(f"{prefix}.{key}" if prefix else key)
                    held.append((module, key, tensor))
        return [_Slot(module=m, key=key, empty=tensor, source=self._source(names[tensor])) for m, key, tensor in held]

    def _source(self, names: Sequence[str]) -> str:
        """What the files call a tensor that the model has under all of `names`."""
        for name in names:
            if name in self.shards.files:
                return name
        raise CheckpointError(
            f"{self.path} has no {' or '.join(names)}, which the model has without values; give the directory "
            "of this model, and make buffers that no file holds outside of the meta device"
        )

    def _slots_in(self, module: nn.Module) -> list[_Slot]:
        inside = set(module.modules())
        return [slot for slot in self._slots if slot.module in inside]

    def _hook(self, part: nn.Module, slots: list[_Slot]) -> None:
        # A part may call itself.
        filled: list[list[_Slot]] = []

        def before(module: nn.Module, args: object) -> None:
            del module, args
            filled.append(self._fill(slots))

        def after(module: nn.Module, args: object, output: object) -> None:
            del module, args, output
            _take_back(filled.pop())

        self._handles.append(part.register_forward_pre_hook(before, prepend=True))
        self._handles.append(part.register_forward_hook(after, always_call=True))

    def _fill(self, slots: Iterable[_Slot]) -> list[_Slot]:
        """Fill those of `slots` that are empty, and give them."""
        filled: list[_Slot] = []
        try:
            for slot in slots:
                if slot.is_empty:
                    slot.tensors[slot.key] = self._read(slot, copy=True)
                    filled.append(slot)
        except BaseException:
            _take_back(filled)
            raise
        return filled

    def _read(self, slot: _Slot, *, copy: bool) -> Tensor:
        [tensor], empty = self.shards.read([slot.source]).values(), slot.empty
        if tensor.shape != empty.shape:
            raise CheckpointError(
                f"{slot.source} has shape {tuple(tensor.shape)} in {self.path}, and {tuple(empty.shape)} in the "
                "model; give the directory of this model"
            )
        tensor = tensor.to(empty.dtype, copy=copy)
        return nn.Parameter(tensor, requires_grad=empty.requires_grad) if isinstance(empty, nn.Parameter) else tensor


def _take_back(slots: Iterable[_Slot]) -> None:
    for slot in slots:
        slot.tensors[slot.key] = slot.empty
