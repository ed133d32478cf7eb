"""Calls of a module that calibrate its layers: one after another, or several at once."""

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from torch import nn

from incref.calibration.suspendable import SuspendableCall, go_on_in_rows

__all__ = ["Runs"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Runs(Generic[T_co]):
    """Calls of a module.

    What is run at once has a module of its own each, so that nothing that a call leaves in one changes another that is
    not over: the module itself, or a copy of it with the same parameters and layers.

    Attributes:
        module: what is called.
        functions: each calls a module that it is given, and gives what is wanted of what that returns.
        layers: names in the module of those that copies of it have, too.
        kinds: what calls differ in, beside values; the same for those that are alike.
        at_once: how many may run at the same time.
        threads: how many threads of PyTorch each of them has; None for those of the caller, and one call at a time.
    """

    module: nn.Module
    functions: Sequence[Callable[[nn.Module], T_co]]
    layers: Sequence[str] = ()
    kinds: Sequence[Hashable] = ()
    at_once: int = 1
    threads: int | None = None

    def only(self, number: int) -> "Runs[T_co]":
        """One of them."""
        return Runs(module=self.module, functions=[self.functions[number]], threads=self.threads)

    def modules(self) -> list[nn.Module]:
        """The module, and copies of it for what runs at the same time; none where it can't be copied."""
        count = min(self.at_once, len(self.functions))
        try:
            return [self.module, *(self._copy() for _ in range(1, count))]
        except Exception:  # noqa: BLE001  # whatever a module of the user's says to being copied
            return [self.module]

    def all(self, then: Callable[[int, T_co], None]) -> None:
        """Make all calls, and pass the number of each and what it gives to `then`, in the same thread."""
        modules = self.modules()

        def run(number: int) -> None:
            then(number, self.functions[number](modules[number % len(modules)]))

        numbers = range(len(self.functions))
        if self.threads is None:
            for number in numbers:
                run(number)
            return
        calls = [SuspendableCall(partial(run, number), threads=self.threads) for number in numbers]
        try:
            go_on_in_rows([calls[first :: len(modules)] for first in range(len(modules))])
        finally:
            for call in calls:
                call.abandon()

    def _copy(self) -> nn.Module:
        kept = (*self.module.parameters(), *map(self.module.get_submodule, self.layers))
        memo: dict[int, object] = {id(one): one for one in kept}
        return copy.deepcopy(self.module, memo)
