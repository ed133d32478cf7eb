"""Tensors that hold nothing, found while a program runs: what a kernel reads of them, or leaves out, is reported."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from incref_kernels.triton.native.extents import KernelError
from incref_kernels.triton.native.install import installed
from incref_kernels.triton.native.native import Grid, native

__all__ = ["watched"]

_EMPTY = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided"}

# No element is read, none is written.
_UNTOUCHED = re.compile(r": (?P<all>\d+) of the (?P=all) elements of (?P<name>\w+) are never written")


class _Fresh(TorchDispatchMode):
    """Notes the storages that were allocated and not written since."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        named = kwargs or {}
        found = func(*args, **named)
        schema = func._schema  # noqa: SLF001
        for argument, given in zip(schema.arguments, args, strict=False):
            if argument.is_write:
                self.forget(given)
        self.forget(named.get("out"))
        results = found if isinstance(found, tuple | list) else [found]
        for declared, result in zip(schema.returns, results, strict=False):
            if isinstance(result, Tensor) and declared.alias_info is None:
                self.forget(result)
                if schema.name in _EMPTY:
                    self.storages.add(_storage(result))
        return found

    def forget(self, given: object) -> None:
        """The storages of these tensors hold something now."""
        for tensor in given if isinstance(given, tuple | list) else [given]:
            if isinstance(tensor, Tensor):
                self.storages.discard(_storage(tensor))


class _Watched:
    """A kernel of which each launch takes tensors that hold nothing as its outputs."""

    def __init__(self, fresh: _Fresh, kernel: object) -> None:
        self._fresh, self._kernel = fresh, kernel

    def __getitem__(self, grid: Grid) -> Callable[..., None]:
        return partial(self._launch, grid)

    def _launch(self, grid: Grid, *args: object, **kwargs: object) -> None:
        given = {**dict(zip(native(self._kernel).kernel.arg_names, args, strict=False)), **kwargs}
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor) and value.numel()}
        contents = {name: value.data.clone() for name, value in tensors.items()}

        def launch(outputs: list[str]) -> None:
            try:
                native(self._kernel, outputs=outputs)[grid](*args, **kwargs)
            except KernelError as error:
                if (placeholder := _UNTOUCHED.search(str(error))) is None:
                    raise
                for name, value in tensors.items():
                    value.data.copy_(contents[name])
                launch([name for name in outputs if name != placeholder["name"]])

        launch([name for name, value in tensors.items() if _storage(value) in self._fresh.storages])
        self._fresh.forget(list(tensors.values()))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def watched() -> Iterator[None]:
    """Report loads of what nothing was stored to, and elements that a kernel leaves out of a tensor that holds nothing.

    A tensor that several launches fill is reported at the first. One that a launch leaves alone is only a placeholder.
    """
    with _Fresh() as fresh, installed(partial(_Watched, fresh)):
        yield
