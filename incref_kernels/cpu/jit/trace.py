"""What a function does to the tensors of one tile, as a list of steps.

The function runs once, on tensors of ones, and every operation of PyTorch that sees a traced tensor is written down.
Tensors that depend on none are constants. So the reference's own arithmetic becomes a program, without a second text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from incref.errors import UnsupportedError

__all__ = ["Program", "Step", "Value", "trace"]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of the program.

    Attributes:
        number: its place among all.
        dtype: of its elements.
        shape: inside a tile.
    """

    number: int
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation.

    Attributes:
        name: of the operation, without its overload.
        args: values, constant tensors, numbers, and what else it takes, in order.
        out: what it gives.
    """

    name: str
    args: tuple[object, ...]
    out: Value


@dataclass(frozen=True, kw_only=True)
class Program:
    """The steps of a function.

    Attributes:
        inputs: what it is given.
        outputs: what it returns.
        steps: in order.
        lost: bool values that must not be true: the reference refuses such elements.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    lost: tuple[Value, ...]


class _Recorder(TorchDispatchMode):
    """Writes down what happens to the tensors that it knows."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of PyTorch
        self.steps: list[Step] = []
        self.lost: list[Value] = []
        self._values: dict[int, Value] = {}
        # An identity is that of one tensor as long as the tensor lives.
        self._alive: list[Tensor] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled by it, and importing it takes seconds.
        return False

    def add(self, tensor: Tensor) -> Value:
        value = Value(number=len(self._alive), dtype=tensor.dtype, shape=tuple(tensor.shape))
        self._alive.append(tensor)
        self._values[id(tensor)] = value
        return value

    def find(self, tensor: Tensor) -> Value:
        value = self._values.get(id(tensor))
        if value is None:
            raise UnsupportedError("a tile's result must depend on its inputs")
        return value

    def _known(self, given: object) -> object:
        return self._values.get(id(given), given) if isinstance(given, Tensor) else given

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        del types
        out = func(*args, **(kwargs or {}))
        given = tuple(self._known(arg) for arg in (*args, *(kwargs or {}).values()))
        if not any(isinstance(arg, Value) for arg in given):
            return out
        name = func._schema.name.removeprefix("aten::")  # noqa: SLF001  # its only name
        if name == "_local_scalar_dense":
            (value,) = given
            if not isinstance(value, Value) or value.dtype is not torch.bool:
                raise UnsupportedError("a tile must not decide by its values what it does")
            self.lost.append(value)
            return False
        if func._schema.is_mutable or not isinstance(out, Tensor):  # noqa: SLF001
            raise UnsupportedError(f"a tile must not use {func}")
        self.steps.append(Step(name=name, args=given, out=self.add(out)))
        return out


def trace(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[tuple[torch.dtype, tuple[int, ...]]]
) -> Program:
    """Run `function` once and write down its steps.

    Args:
        function: takes tensors and gives one or more. It may call
            `require_not_nan`, and nothing else that reads values.
        inputs: dtype and shape of every tensor.

    Raises:
        UnsupportedError: if it changes a tensor in place, or decides by values.
    """
    recorder = _Recorder()
    # In inference mode, and of tensors made there, PyTorch would not break operations down to those that are known.
    with torch.inference_mode(mode=False), torch.no_grad():
        tensors = [torch.ones(shape, dtype=dtype) for dtype, shape in inputs]
        values = tuple(recorder.add(tensor) for tensor in tensors)
        with recorder:
            found = function(*tensors)
    results = found if isinstance(found, tuple) else (found,)
    return Program(
        inputs=values,
        outputs=tuple(recorder.find(result) for result in results),
        steps=tuple(recorder.steps),
        lost=tuple(recorder.lost),
    )
