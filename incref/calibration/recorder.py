"""Records the calls of a model, and of its blocks, so that they can be repeated block by block."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from incref.calibration.patched import patched
from incref.calibration.skipping import Wrapping, skip_blocks
from incref.errors import UnsupportedError

__all__ = ["BlockCall", "Call", "CallRecorder", "Chain", "replay"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """Arguments of one call.

    Attributes:
        args: positional ones.
        kwargs: named ones.
    """

    args: tuple[object, ...]
    kwargs: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class BlockCall:
    """Arguments of one call of a block, without the hidden state that it gets from the block before.

    Attributes:
        call: the arguments, with None for the hidden state.
        slot: where the hidden state belongs: a position or a name.
    """

    call: Call
    slot: int | str


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The calls of all blocks that one call of the model made.

    Attributes:
        hidden: what the first block got.
        calls: of each block, in order.
    """

    hidden: Tensor
    calls: list[BlockCall]


@dataclass(kw_only=True)
class _Chaining:
    """A chain that is being recorded."""

    hidden: Tensor | None = None
    calls: list[BlockCall] = field(default_factory=list)
    last_output: object = None
    wrappings: list[Wrapping | None] = field(default_factory=list)

    def is_same(self, other: "_Chaining") -> bool:
        """Whether blocks get the same, beside the hidden states between them."""
        ours, theirs = ([vars(call) for call in chaining.calls] for chaining in (self, other))
        return _are_same([self.hidden, *ours], [other.hidden, *theirs])


class CallRecorder:
    """Records every call of a model that it is attached to.

    Blocks are a chain as long as each of them is called once in every call of the model, in order, and gets what the
    one before returned.

    If `computes`, the model gives what it did. If not, it gives None, and nothing is computed where blocks are no
    chain. Where they are, the first call is made in full, and again with blocks that give what they get. If that makes
    no difference to what blocks get beside the hidden state, later calls are made the second way alone, up to the last
    block.

    Attributes:
        blocks: names of the blocks.
        calls: of the model.
        chains: for each of those the calls of its blocks; None where blocks are no chain.
        draws: whether any of them drew random numbers of the processor's generator.
    """

    def __init__(self, model: nn.Module, blocks: list[str], *, computes: bool = True) -> None:
        """Prepare to record the calls of `model` and of its `blocks`, or of a copy."""
        self.blocks = blocks
        self._computes = computes
        # None as long as that is not known.
        self._may_skip: bool | None = None
        self._wrappings: list[Wrapping] = []
        self._patches = ExitStack()
        self.calls: list[Call] = []
        self.chains: list[Chain] | None = [] if blocks else None
        self.draws = False
        self._random_state = torch.get_rng_state()
        self._call = Call(args=(), kwargs={})
        self._open: _Chaining | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._takes_use_cache = "use_cache" in inspect.signature(model.forward).parameters

    def take_over(self, other: "CallRecorder") -> None:
        """Take the calls that `other` recorded, of a model of the same structure."""
        self.blocks, self.calls, self.chains = other.blocks, other.calls, other.chains
        self.draws = other.draws

    def attach(self, model: nn.Module) -> None:
        """Hook into `model`, of the structure that this was made for."""
        keep = self._handles.append
        keep(model.register_forward_pre_hook(self._before_model, with_kwargs=True))
        keep(model.register_forward_hook(self._after_model))
        for index, name in enumerate(self.blocks):
            block = model.get_submodule(name)
            keep(block.register_forward_pre_hook(self._before_block(index), with_kwargs=True))
            keep(block.register_forward_hook(self._after_block))
        if not self._computes:
            blocks = [model.get_submodule(name) for name in self.blocks]
            self._patches.enter_context(patched({model: self._forward(model.forward, blocks)}))

    def detach(self) -> None:
        """Stop to record."""
        while self._handles:
            self._handles.pop().remove()
        self._patches.close()

    def _forward(self, forward: Callable[..., object], blocks: Sequence[nn.Module]) -> Callable[..., None]:
        """What a model computes that is called to be recorded alone."""

        def record(*args: object, **kwargs: object) -> None:
            def skip() -> None:
                skip_blocks(lambda: forward(*args, **kwargs), blocks, self._wrappings, _find_hidden)

            if self.chains is None:
                return
            if self._may_skip:
                skip()
                return
            forward(*args, **kwargs)
            if self._may_skip is None:
                self._may_skip = self._try_to_skip(skip)

        return record

    def _try_to_skip(self, skip: Callable[[], None]) -> bool:
        """Whether blocks get the same, beside the hidden state, if they are not computed."""
        computed = self._open
        if computed is None:
            return False
        self._wrappings = [wrapping for wrapping in computed.wrappings if wrapping is not None]
        if not len(self._wrappings) == len(computed.calls) == len(self.blocks):
            return False
        chains = self.chains
        try:
            skipped = self._record(skip)
        except Exception:  # noqa: BLE001  # the model needs what blocks compute
            return False
        finally:
            self._open, self.chains = computed, chains
        return skipped is not None and skipped.is_same(computed)

    def _record(self, run: Callable[[], None]) -> _Chaining | None:
        self._open = _Chaining()
        run()
        return self._open

    def _before_model(
        self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        del module
        if self._takes_use_cache:
            # A cache would make a block's result depend on how often it was called.
            kwargs = {**kwargs, "use_cache": False}
        _refuse_caches(kwargs)
        self._call = Call(args=_detached_tuple(args), kwargs=_detached_dict(kwargs))
        self._open = _Chaining() if self.chains is not None else None
        self._random_state = torch.get_rng_state()
        return args, kwargs

    def _after_model(self, module: nn.Module, args: object, output: object) -> None:
        del module, args, output
        opened, self._open = self._open, None
        self.draws |= not torch.equal(self._random_state, torch.get_rng_state())
        # Only now: a call that failed would fail again.
        self.calls.append(self._call)
        if self.chains is None or opened is None:
            return
        if len(opened.calls) == len(self.blocks) and opened.hidden is not None:
            self.chains.append(Chain(hidden=opened.hidden, calls=opened.calls))
        else:
            self.chains = None

    def _before_block(self, index: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  # the type that torch declares
        def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            del module
            opened = self._open
            if opened is None:
                return
            slot = _find_slot(args, kwargs)
            hidden = None if slot is None else _get(args, kwargs, slot)
            follows = index == 0 or hidden is opened.last_output
            if slot is None or index != len(opened.calls) or not follows:
                self._open = self.chains = None
                return
            if index == 0:
                assert isinstance(hidden, Tensor)
                # A copy: a model may add to it in place.
                opened.hidden = hidden.detach().clone()
            rest = _put(Call(args=args, kwargs=kwargs), slot, None)
            rest = Call(args=_detached_tuple(rest.args), kwargs=_detached_dict(rest.kwargs))
            opened.calls.append(BlockCall(call=rest, slot=slot))

        return hook

    def _after_block(self, module: nn.Module, args: object, output: object) -> None:
        del module, args
        if self._open is not None:
            self._open.last_output = first_tensor(output)
            self._open.wrappings.append(Wrapping.of(output))


def replay(block: nn.Module, hidden: Tensor, call: BlockCall) -> Tensor:
    """Call `block` again, with another hidden state, and give the one that it returns; `hidden` stays as it is."""
    # A copy: a block may add to it in place.
    full = _put(call.call, call.slot, hidden.clone())
    result = first_tensor(block(*full.args, **full.kwargs))
    assert result is not None
    return result


def first_tensor(output: object) -> Tensor | None:
    """The tensor that a block returns, alone or first in a tuple."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def _find_hidden(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    slot = _find_slot(args, kwargs)
    return None if slot is None else _get(args, kwargs, slot)


def _find_slot(args: tuple[object, ...], kwargs: Mapping[str, object]) -> int | str | None:
    """Where the first float tensor stands."""
    for position, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            return position
    return next((k for k, v in kwargs.items() if isinstance(v, Tensor) and v.is_floating_point()), None)


def _get(args: tuple[object, ...], kwargs: Mapping[str, object], slot: int | str) -> object:
    return args[slot] if isinstance(slot, int) else kwargs[slot]


def _put(call: Call, slot: int | str, value: object) -> Call:
    if isinstance(slot, int):
        return Call(args=(*call.args[:slot], value, *call.args[slot + 1 :]), kwargs=call.kwargs)
    return Call(args=call.args, kwargs={**call.kwargs, slot: value})


def _detached(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) is tuple:
        return _detached_tuple(value)
    if type(value) is list:
        return [_detached(entry) for entry in value]
    return _detached_dict(value) if type(value) is dict else value


def _detached_tuple(values: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(_detached(value) for value in values)


def _detached_dict(values: dict[str, object]) -> dict[str, object]:
    return {key: _detached(value) for key, value in values.items()}


def _are_same(one: object, other: object) -> bool:
    """Whether two structures hold the same objects, or tensors of the same bits."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.dtype is other.dtype and one.device == other.device and torch.equal(one, other))
    if isinstance(one, Call) and isinstance(other, Call):
        return _are_same(vars(one), vars(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_are_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_same(value, other[key]) for key, value in one.items())
    return one is other or (isinstance(one, bool | int | float | str) and one == other)


def _refuse_caches(kwargs: Mapping[str, object]) -> None:
    for name, value in kwargs.items():
        if hasattr(value, "get_seq_length"):
            raise UnsupportedError(
                f"calibration repeats calls, and the cache in {name} would grow each time; "
                "feed whole sequences to the model, without generate"
            )
