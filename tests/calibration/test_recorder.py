import pytest
import torch
from torch import Tensor, nn

from incref.calibration.recorder import CallRecorder, replay
from incref.errors import UnsupportedError


class Block(nn.Module):
    def __init__(self, *, gives_tuple: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.gives_tuple = gives_tuple

    def forward(self, hidden: Tensor, shift: Tensor, scale: float = 1.0) -> Tensor | tuple[Tensor, None]:
        out = self.linear(hidden) * scale + shift
        return (out, None) if self.gives_tuple else out


class Model(nn.Module):
    def __init__(self, *, gives_tuple: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(Block(gives_tuple=gives_tuple) for _ in range(3))
        self.detour = False
        self.cache_seen: list[object] = []

    def forward(self, x: Tensor, *, use_cache: bool | None = None, cache: object = None) -> Tensor:  # noqa: ARG002  # to be refused
        self.cache_seen.append(use_cache)
        hidden = self.first(x)
        for index, block in enumerate(self.blocks):
            if self.detour:
                hidden = hidden + 1
            out = block(hidden, shift=torch.full((4,), float(index)), scale=2.0)
            hidden = out[0] if isinstance(out, tuple) else out
        return hidden


BLOCKS = ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize("gives_tuple", [False, True])
def test_blocks_give_the_same_again(gives_tuple: bool) -> None:
    model = Model(gives_tuple=gives_tuple)
    recorder = CallRecorder(model, BLOCKS)
    recorder.attach(model)
    inputs = [torch.randn(2, 4), torch.randn(5, 4)]
    outputs = [model(x) for x in inputs]
    recorder.detach()
    model(torch.zeros(1, 4))
    assert recorder.chains is not None
    assert [call.args[0] is not None for call in recorder.calls] == [True, True]
    for chain, output in zip(recorder.chains, outputs, strict=True):
        hidden = chain.hidden
        assert not hidden.requires_grad
        for name, call in zip(BLOCKS, chain.calls, strict=True):
            hidden = replay(model.get_submodule(name), hidden, call)
        assert torch.equal(hidden, output)


def test_the_hidden_state_may_be_named() -> None:
    class Named(Model):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            for block in self.blocks:
                x = block(shift=0, hidden=x)
            return x

    model, x = Named(), torch.randn(2, 4)
    recorder = CallRecorder(model, BLOCKS)
    recorder.attach(model)
    output = model(x)
    assert recorder.chains is not None
    hidden = recorder.chains[0].hidden
    for name, call in zip(BLOCKS, recorder.chains[0].calls, strict=True):
        assert call.slot == "hidden"
        hidden = replay(model.get_submodule(name), hidden, call)
    assert torch.equal(hidden, output)


def test_what_stands_between_blocks_makes_them_no_chain() -> None:
    model = Model()
    recorder = CallRecorder(model, BLOCKS)
    recorder.attach(model)
    model(torch.randn(2, 4))
    model.detour = True
    model(torch.randn(2, 4))
    assert recorder.chains is None
    assert len(recorder.calls) == 2


def test_blocks_that_are_left_out_make_no_chain() -> None:
    model = Model()
    recorder = CallRecorder(model, [*BLOCKS, "first"])
    recorder.attach(model)
    model(torch.randn(2, 4))
    assert recorder.chains is None


def test_a_model_without_blocks() -> None:
    model = nn.Linear(4, 4)
    recorder = CallRecorder(model, [])
    recorder.attach(model)
    x = torch.randn(2, 4)
    model(x)
    assert recorder.chains is None
    assert recorder.calls[0].args[0] is not x
    assert torch.equal(recorder.calls[0].args[0], x)  # type: ignore[arg-type]  # a tensor, as the line above shows


def test_a_call_that_fails_is_not_recorded() -> None:
    model = Model()
    recorder = CallRecorder(model, BLOCKS)
    recorder.attach(model)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 3))
    model(torch.randn(2, 4))
    assert len(recorder.calls) == 1
    assert recorder.chains is not None
    assert len(recorder.chains) == 1


def test_caches_are_turned_off_and_refused() -> None:
    class Cache:
        def get_seq_length(self) -> int:
            return 0

    model = Model()
    CallRecorder(model, BLOCKS).attach(model)
    model(torch.randn(2, 4))
    model(torch.randn(2, 4), use_cache=True)
    assert model.cache_seen == [False, False]
    with pytest.raises(UnsupportedError, match="the cache in cache would grow"):
        model(torch.randn(2, 4), cache=Cache())


def record_only(model: nn.Module, blocks: list[str], data: list[Tensor]) -> tuple[CallRecorder, CallRecorder]:
    """Record in full and alone, and check that nothing of it stays."""
    full, alone = CallRecorder(model, blocks), CallRecorder(model, blocks, computes=False)
    for recorder in (full, alone):
        recorder.attach(model)
        for x in data:
            assert (model(x) is None) == (recorder is alone)
        recorder.detach()
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert isinstance(model(data[0]), Tensor)
    return full, alone


def assert_same(one: CallRecorder, other: CallRecorder) -> None:
    assert len(one.calls) == len(other.calls)
    assert (one.chains is None) == (other.chains is None)
    for a, b in zip(one.chains or [], other.chains or [], strict=True):
        assert torch.equal(a.hidden, b.hidden)
        for mine, theirs in zip(a.calls, b.calls, strict=True):
            assert mine.slot == theirs.slot
            assert mine.call.args == theirs.call.args
            assert mine.call.kwargs.keys() == theirs.call.kwargs.keys()
            assert torch.equal(torch.as_tensor(mine.call.kwargs["shift"]), torch.as_tensor(theirs.call.kwargs["shift"]))


DATA = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 5, 3)]


class Counted(Model):
    """Counts the calls that come to an end."""

    ended = 0

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        result = super().forward(x)
        self.ended += 1
        return result


@pytest.mark.parametrize("gives_tuple", [False, True])
def test_blocks_are_skipped_where_only_calls_are_recorded(gives_tuple: bool) -> None:
    model = Counted(gives_tuple=gives_tuple)
    full, alone = record_only(model, BLOCKS, DATA)
    assert_same(full, alone)
    # All calls in full, of the others the first, and one after them.
    assert model.ended == len(DATA) + 1 + 1


def test_what_blocks_get_may_depend_on_what_blocks_give() -> None:
    class Model1(Counted):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            hidden, shift = self.first(x), torch.zeros(())
            for block in self.blocks:
                hidden = block(hidden, shift=shift)
                shift = hidden.mean()
            self.ended += 1
            return hidden  # type: ignore[no-any-return]

    model = Model1()
    full, alone = record_only(model, BLOCKS, DATA)
    assert_same(full, alone)
    assert model.ended == 2 * len(DATA) + 1


def test_a_model_may_need_what_blocks_give() -> None:
    class Wider(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, hidden: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
            return self.linear(hidden) + shift, shift + 1

    class Model2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Wider() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            shift = torch.zeros(())
            for block in self.blocks:
                x, shift = block(x, shift=shift)
            return x

    full, alone = record_only(Model2(), BLOCKS, DATA)
    assert_same(full, alone)


def test_a_model_without_a_chain_need_not_compute() -> None:
    model = Counted()
    model.detour = True
    full, alone = record_only(model, BLOCKS, DATA)
    assert full.chains is None
    assert_same(full, alone)
    assert model.ended == len(DATA) + 1 + 1


def test_a_call_that_fails_while_blocks_are_skipped() -> None:
    model = Model()
    recorder = CallRecorder(model, BLOCKS, computes=False)
    recorder.attach(model)
    for x in DATA:
        model(x)
        with pytest.raises(RuntimeError):
            model(torch.randn(2, 3))
    recorder.detach()
    assert len(recorder.calls) == len(DATA)
    assert recorder.chains is not None
    assert len(recorder.chains) == len(DATA)
    assert isinstance(model(DATA[0]), Tensor)


@pytest.mark.parametrize("draws", [False, True])
def test_whether_random_numbers_are_drawn(draws: bool) -> None:
    model = Model()
    other = CallRecorder(model, BLOCKS)
    recorder = CallRecorder(model, BLOCKS)
    recorder.attach(model)
    model(torch.zeros(2, 4))
    # Nobody minds what happens between calls.
    torch.rand(1)
    if draws:
        model.first.register_forward_hook(lambda module, args, output: output + torch.rand(1))  # noqa: ARG005  # the hook's arguments
    model(torch.zeros(2, 4))
    recorder.detach()
    assert recorder.draws is draws
    other.take_over(recorder)
    assert other.draws is draws
