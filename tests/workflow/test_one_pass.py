"""One pass of a block gives the bits that passes for every step give."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.calibration.suspendable import SuspendableCall
from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.mixed_precision import MixedPrecisionConfig
from incref.config.rtn import RTNConfig
from incref.errors import CalibrationWarning, LayerError
from incref.workflow import blockwise, one_pass
from incref.workflow.one_pass import OnePass
from incref.workflow.quantize import quantize

K = 16
CONFIG = GPTQConfig(group_size=8, act_order=True, true_sequential=True, group_scales="current")
TOKENS = [torch.randint(0, 64, (2, n), generator=torch.Generator().manual_seed(n)) for n in (12, 9, 12, 5)]
ROWS = [torch.randn(n, K, generator=torch.Generator().manual_seed(n)) for n in (24, 9, 31)]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Calls:
    """Quantizes a model, and counts the calls of its blocks meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.went_well: list[bool] = []
        self.together: list[list[list[str]]] = []
        self.may = True
        original = one_pass.replace_in_one_pass

        def replace(*args: object) -> OnePass | None:
            found = original(*args) if self.may else None  # type: ignore[arg-type]  # those of the original
            self.went_well.append(found is not None)
            if found is not None:
                self.together.append(found.together)
            return found

        monkeypatch.setattr(blockwise, "replace_in_one_pass", replace)

    def quantize(self, model: nn.Module, config: BaseConfig, data: Sequence[Tensor], *, may: bool) -> dict[str, bytes]:
        self.may = may

        def feed(prepared: nn.Module) -> None:
            for one in data:
                # A model may add to it in place.
                prepared(one.clone())

        with torch.no_grad():
            state = quantize(copy.deepcopy(model), config, feed).state_dict()
        assert all(name == name.strip("_") for name in state)
        return {
            name: tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for name, tensor in state.items()
        }

    def both(self, model: nn.Module, config: BaseConfig, data: Sequence[Tensor]) -> list[bool]:
        """Quantize in both ways, compare, and say which blocks went well in one pass."""
        torch.manual_seed(0)
        got = self.quantize(model, config, data, may=True)
        went_well, self.went_well = self.went_well, []
        torch.manual_seed(0)
        assert got == self.quantize(model, config, data, may=False)
        return went_well


@pytest.fixture(params=[1, 2], ids=["one after another", "two at once"])
def calls(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Calls]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(blockwise, "_CALLS_PER_THREAD", 1)
    yield Calls(monkeypatch)
    torch.set_num_threads(before)


def transformers_model(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    common = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=2, n_positions=16, **common)
        return transformers.GPT2LMHeadModel(config).eval()  # type: ignore[no-any-return]
    if kind == "bert":
        config = transformers.BertConfig(max_position_embeddings=16, **sizes, **common)
        return transformers.BertModel(config).eval()  # type: ignore[no-any-return]
    if kind == "phi":
        return transformers.PhiForCausalLM(transformers.PhiConfig(**sizes, **common)).eval()  # type: ignore[no-any-return]
    if kind == "gemma3":
        # Blocks that look at all, and blocks that look at a window, get other masks and rotations.
        types = ["sliding_attention", "full_attention", "sliding_attention"]
        config = transformers.Gemma3TextConfig(
            num_key_value_heads=1, head_dim=16, sliding_window=4, layer_types=types, **sizes, **common
        )
        return transformers.Gemma3ForCausalLM(config).eval()  # type: ignore[no-any-return]
    config = transformers.LlamaConfig(num_key_value_heads=1, **sizes, **common)
    return transformers.LlamaForCausalLM(config).eval()  # type: ignore[no-any-return]


CONFIGS: dict[str, BaseConfig] = {
    "int4": CONFIG,
    "mxfp4": GPTQConfig(dtype="mxfp4", true_sequential=True),
    "head too": GPTQConfig(group_size=16, true_sequential=True, quant_lm_head=True, use_double_quant=True),
    "mixed": GPTQConfig(group_size=16, true_sequential=True)
    .set_local(".*(o_proj|attn.c_proj|attention.output.dense|self_attn.dense)", RTNConfig(dtype="nf4"))
    .set_local(".*(up_proj|mlp.c_fc|intermediate.dense|fc1)", MixedPrecisionConfig(dtype="bf16"))
    .set_local(".*(v_proj|value|c_attn)", GPTQConfig(group_size=8, act_order=True)),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "phi"])
def test_models_of_transformers(kind: str, config: BaseConfig, calls: Calls) -> None:
    assert calls.both(transformers_model(kind), config, TOKENS) == [True] * 3


def test_every_layer_is_called_once_for_a_sequence(calls: Calls) -> None:
    model = transformers_model("llama")
    counted: list[int] = []

    def count(module: nn.Module, args: object, output: object) -> None:
        del module, args, output
        counted.append(1)

    for block in model.get_submodule("model.layers").children():
        block.get_submodule("input_layernorm").register_forward_hook(count)
    blocks, data = 3, len(TOKENS)
    calls.quantize(model, CONFIG, TOKENS, may=True)
    # By the user, suspended, and one call again to compare with.
    assert len(counted) == blocks * (2 * data + 1)


class Experts(nn.Module):
    """A block in which rows go to some of the experts, in the order of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(K, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(K, K), nn.ReLU(), nn.Linear(K, K)) for _ in range(4))
        self.shared = nn.Linear(K, K)

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.router(x).argmax(-1)
        y = x + self.shared(x)
        for number, expert in enumerate(self.experts):
            if (rows := chosen == number).any():
                y[rows] = y[rows] + expert(x[rows])
        return y


def chain(block: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(*(block() for _ in range(3))).eval()


@pytest.mark.filterwarnings("ignore:.*was never called:incref.errors.CalibrationWarning")
def test_mixtures_of_experts(calls: Calls) -> None:
    # The first calls reach few experts.
    data = [*(row[None] for row in ROWS[0][:3]), *ROWS]
    model = chain(Experts)
    with torch.no_grad():
        assert len({int(model[0].router(one).argmax()) for one in ROWS[0]}) > 1  # type: ignore[index, operator]  # a Sequential of blocks
    assert calls.both(model, CONFIG, data) == [True] * 3


@pytest.mark.parametrize("bias", [1.0, -1.0])
def test_an_expert_that_nothing_reaches(bias: float, calls: Calls) -> None:
    model = chain(Experts)
    with torch.no_grad():
        for block in model.children():
            block.get_parameter("router.bias").copy_(bias * torch.tensor([100.0, 0, 0, 0]))
    with pytest.warns(CalibrationWarning, match=r"\d\.experts\.\d\.\d was never called"):
        assert calls.both(model, CONFIG, ROWS) == [True] * 3


def test_convolutions_with_groups(calls: Calls) -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))

    data = [torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    config = GPTQConfig(group_size=-1, true_sequential=True)
    assert calls.both(chain(block), config, data) == [True] * 3


def test_encoders_of_pytorch(calls: Calls) -> None:
    def block() -> nn.Module:
        return nn.TransformerEncoderLayer(K, 2, 24, batch_first=True)

    # Its attention reads weights, and calls no layer; it calls the others only where something hooks into them.
    assert calls.both(chain(block), CONFIG, [x[None] for x in ROWS]) == [True] * 3


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(K, K), nn.Linear(K, K), nn.Linear(K, K)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.c(F.relu(self.a(x)) * self.b(x))
        return result


class InPlace(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        x.add_(y)
        return x.add_(self.c(self.b(x)))


class Twice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.c(self.a(x) + self.b(F.relu(self.a(x + 1))))
        return result


class TwiceIfLong(Plain):
    def forward(self, x: Tensor) -> Tensor:
        for chunk in x.split(25):
            x = x + self.b(self.a(chunk)).mean(0)
        return x + self.c(x)  # type: ignore[no-any-return]


class OtherOrder(Plain):
    """The first call reaches its layers in another order than the others."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.a, self.b) if len(x) == len(ROWS[0]) else (self.b, self.a)
        y = F.relu(first(x))
        return x + self.c(second(y))  # type: ignore[no-any-return]


class Keeps(Plain):
    """A call leaves something in the module, for itself."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x.mean(0)
        return x + self.c(self.a(x) + self.b(x) * self.kept)  # type: ignore[no-any-return]


class KeepsByLength(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.length = len(x)
        return x + self.c(self.a(x) * self.length)  # type: ignore[no-any-return]


class Reads(Plain):
    """A weight is read, and its layer not called."""

    def forward(self, x: Tensor) -> Tensor:
        return x + F.linear(self.a(x) + self.b(x), self.c.weight)


class Stumbles(Plain):
    """Something is wrong if calls are suspended."""

    def forward(self, x: Tensor) -> Tensor:
        self.is_called = not getattr(self, "is_called", False)
        if not self.is_called:
            raise RuntimeError("called while it was")
        y = self.a(x)
        self.is_called = False
        return x + self.c(self.b(y))  # type: ignore[no-any-return]


@pytest.mark.parametrize("block", [Plain, InPlace])
def test_regular_blocks(block: type[nn.Module], calls: Calls) -> None:
    assert calls.both(chain(block), CONFIG, ROWS) == [True] * 3


@pytest.mark.filterwarnings("ignore:.*was never called:incref.errors.CalibrationWarning")
@pytest.mark.parametrize("block", [Twice, TwiceIfLong, OtherOrder, Keeps, KeepsByLength, Reads, Stumbles])
def test_what_a_block_does_that_can_not_be_suspended(block: type[nn.Module], calls: Calls) -> None:
    assert calls.both(chain(block), CONFIG, ROWS) == [False]


def test_layers_that_get_the_same_are_quantized_together(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    original = SuspendableCall.suspend

    def suspend(call: SuspendableCall[object]) -> None:
        waits.append(1)
        original(call)

    monkeypatch.setattr(SuspendableCall, "suspend", suspend)
    assert calls.both(transformers_model("llama"), CONFIG, TOKENS) == [True] * 3
    attention, output, first, last = ["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]
    parts = [("self_attn", attention), ("self_attn", output), ("mlp", first), ("mlp", last)]
    assert calls.together == [[[f"{part}.{name}" for name in names] for part, names in parts]] * 3
    # At all layers of the first block, and at one of each lot after it.
    assert len(waits) == len(TOKENS) * (7 + 4 + 4)


class ByNumber(Plain):
    """The first two blocks give two layers the same."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = ByNumber.made % 3
        ByNumber.made += 1

    def shift(self, x: Tensor) -> Tensor:
        return x if self.number < 2 else x + 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.c(self.a(x) + self.b(self.shift(x)))  # type: ignore[no-any-return]


class WritesByNumber(ByNumber):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.number == 2:
            x.add_(1)
        return x + self.c(y + self.b(x))  # type: ignore[no-any-return]


class LeavesOutByNumber(ByNumber):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.number < 2 or len(x) > 20:
            y = y + self.b(x)
        return x + self.c(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("block", [ByNumber, WritesByNumber, LeavesOutByNumber])
def test_a_block_may_give_layers_the_same_and_the_next_one_not(block: type[nn.Module], calls: Calls) -> None:
    assert calls.both(chain(block), CONFIG, ROWS) == [True] * 3
    assert calls.together == [[["a", "b"], ["c"]]] * 2 + [[["a"], ["b"], ["c"]]]


class Random(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.c(self.a(x) + torch.randn_like(x))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*was never called:incref.errors.CalibrationWarning")
def test_a_block_that_never_gives_the_same_is_not_asked_to(calls: Calls) -> None:
    calls.quantize(chain(Random), CONFIG, ROWS, may=True)
    assert calls.went_well == [True] * 3


@pytest.mark.filterwarnings("ignore:.*was never called:incref.errors.CalibrationWarning")
def test_random_numbers_are_drawn_in_the_order_of_calls(calls: Calls) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(calls.quantize(chain(Random), CONFIG, ROWS, may=True))
    assert found[0] == found[1]


class KeepsForAMoment(Plain):
    """Two calls at once would take each other's."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        self.kept = y.mean(0)
        time.sleep(0.02)
        return x + self.c(y * self.kept) + self.b(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("true_sequential", [False, True])
def test_calls_at_once_do_not_disturb_each_other(
    true_sequential: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    config = GPTQConfig(group_size=8, true_sequential=true_sequential)
    for at_once in (1, 3):
        monkeypatch.setattr(blockwise, "_side_by_side", lambda *_, at_once=at_once: (at_once, 1))
        found.append(Calls(monkeypatch).quantize(chain(KeepsForAMoment), config, ROWS, may=True))
    assert found[0] == found[1]


def test_a_method_that_is_not_sequential_takes_no_single_pass(calls: Calls) -> None:
    calls.quantize(chain(Plain), GPTQConfig(group_size=8), ROWS, may=True)
    assert not calls.went_well


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_errors_come_through(error: type[BaseException], calls: Calls) -> None:
    class Raises(Plain):
        times = 0

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            Raises.times += 1
            # All of the user's calls, and one of the first block.
            if Raises.times > 3 * len(ROWS) + 1:
                raise error
            return y

    with pytest.raises(error):
        calls.quantize(chain(Raises), CONFIG, ROWS, may=True)


def test_data_that_is_not_finite_names_the_layer(calls: Calls) -> None:
    with pytest.raises(LayerError, match=r"0.a: .* look for NaN or Inf"):
        calls.quantize(chain(Plain), CONFIG, [torch.full((2, K), torch.nan)], may=True)


def test_no_more_threads_than_there_may_be(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each has but one of PyTorch.
    monkeypatch.setattr(one_pass, "_MOST_THREADS", len(ROWS) - 1)
    assert calls.both(chain(Plain), CONFIG, ROWS) == [False]


@torch.no_grad()
def test_layers_are_as_they_were_and_hooks_are_gone() -> None:
    model = chain(Twice)
    before = dict(model.named_modules())

    def feed(prepared: nn.Module) -> None:
        for one in ROWS:
            prepared(one)

    converted = quantize(model, GPTQConfig(group_size=8, true_sequential=True).set_local("0.c", RTNConfig()), feed)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in converted.modules())
    assert all("forward" not in vars(m) for m in before.values())
