"""Calls of a module, several at once."""

import threading
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from incref.workflow.runs import Runs


class Keeps(nn.Module):
    """Leaves something in itself for the time of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.register_buffer("written", torch.zeros(3))
        self.kept = torch.zeros(3)

    def forward(self, x: Tensor, meeting: threading.Barrier) -> Tensor:
        self.kept = x
        self.get_buffer("written").copy_(x)
        meeting.wait(timeout=30)
        assert self.kept is x
        return self.layer(self.get_buffer("written"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("at_once", [1, 2, 4])
@torch.no_grad()
def test_what_runs_at_once_has_modules_of_its_own(at_once: int) -> None:
    module, meeting = Keeps(), threading.Barrier(at_once)
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found: dict[int, tuple[Tensor, int]] = {}

    def then(number: int, output: Tensor) -> None:
        found[number] = output, torch.get_num_threads()

    def call(x: Tensor, module: nn.Module) -> Tensor:
        result: Tensor = module(x, meeting)
        return result

    functions = [partial(call, x) for x in inputs]
    Runs(module=module, functions=functions, layers=["layer"], at_once=at_once, threads=1).all(then)
    assert sorted(found) == [0, 1, 2, 3]
    for number, (output, threads) in found.items():
        assert torch.equal(output, module.layer(inputs[number]))
        assert threads == 1


def test_copies_have_the_same_parameters_and_layers() -> None:
    module = Keeps()
    runs: Runs[None] = Runs(module=module, functions=[lambda _: None] * 3, layers=["layer"], at_once=5)
    first, *copies = runs.modules()
    assert first is module
    assert len(copies) == 2
    for one in copies:
        assert one is not module
        assert one.get_submodule("layer") is module.layer
        assert one.get_submodule("other") is not module.other
        assert one.get_parameter("other.weight") is module.other.weight
        assert one.get_buffer("written") is not module.written


def test_a_module_that_has_no_copies_is_called_by_one_call_after_another() -> None:
    class Alone(Keeps):
        def __deepcopy__(self, memo: object) -> "Alone":
            raise TypeError("there is only one")

    module, seen = Alone(), []
    runs = Runs(module=module, functions=[lambda _, n=n: n for n in range(4)], at_once=2, threads=1)  # type: ignore[misc]  # mypy takes n for an argument
    runs.all(lambda number, result: seen.append((number, result)))
    assert seen == [(n, n) for n in range(4)]


@pytest.mark.parametrize("threads", [None, 1])
def test_after_an_error_no_call_begins(threads: int | None) -> None:
    seen: list[int] = []

    def call(module: nn.Module, number: int) -> None:
        del module
        seen.append(number)
        if number == 1:
            raise KeyboardInterrupt

    before = threading.active_count()
    runs = Runs(module=nn.Linear(1, 1), functions=[partial(call, number=n) for n in range(4)], threads=threads)
    with pytest.raises(KeyboardInterrupt):
        runs.all(lambda *_: None)
    assert seen == [0, 1]
    assert threading.active_count() == before


def test_only_one() -> None:
    seen: list[int] = []
    runs = Runs(module=nn.Linear(1, 1), functions=[lambda _, n=n: n for n in range(4)], at_once=2, threads=1)  # type: ignore[misc]  # likewise
    runs.only(2).all(lambda number, result: seen.extend((number, result)))
    assert seen == [0, 2]
