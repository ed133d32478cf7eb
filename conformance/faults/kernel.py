"""What faults and controls have in common."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar

from incref.backends.declared import ANY_ORDER, Declared
from incref.conformance.implementation import Candidate, Choice

__all__ = ["Kernel"]


class Kernel(ABC):
    """An implementation, step by step; a class below it that is not right changes one step.

    The docstring of such a class is its story, `source` the public bug that it is modelled on, where one
    can be looked up.
    """

    op: ClassVar[str]
    options: ClassVar[Mapping[str, Collection[object]]] = {}
    choices: ClassVar[frozenset[Choice]] = frozenset()
    accumulator: ClassVar[Declared] = ANY_ORDER
    takes_out: ClassVar[bool] = False
    source: ClassVar[str] = ""
    is_right: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run it."""

    def candidate(self) -> Candidate:
        """Make what the harness judges."""
        return Candidate(
            op=self.op,
            fn=self,
            options=self.options,
            choices=self.choices,
            accumulator=self.accumulator,
            takes_out=self.takes_out,
        )
