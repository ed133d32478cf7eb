"""Models on the meta device that are converted one block at a time, from their files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from incref.checkpoints.shards import write_shards
from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.errors import CheckpointError, LayerError
from incref.evaluation.huggingface import load_model
from incref.modules.layer import QuantLayer
from incref.workflow.convert import convert
from incref.workflow.lending import Lender
from incref.workflow.prepare import prepare
from incref.workflow.quantize import quantize
from incref.workflow.save import save
from incref.workflow.transformers_model import empty_model

K = 24


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(K)
        self.a, self.b = nn.Linear(K, 2 * K), nn.Linear(2 * K, K)
        self.register_buffer("shift", torch.ones(K))

    def forward(self, x: Tensor) -> Tensor:
        assert not self.a.weight.is_meta
        result: Tensor = x + self.b(F.relu(self.a(self.norm(x) + self.shift)))
        return result


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, K)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.neck = nn.Linear(K, K)
        self.lm_head = nn.Linear(K, 10, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        for block in self.blocks:
            h = block(h)
        result: Tensor = self.lm_head(self.neck(h))
        return result


def real() -> Model:
    torch.manual_seed(0)
    return Model().eval()


def empty() -> Model:
    with torch.device("meta"):
        return Model().eval()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tensors = dict(real().state_dict())
    del tensors["lm_head.weight"]
    directory = tmp_path / "model"
    directory.mkdir()
    assert len(write_shards(tensors, directory, max_shard_size=9000)) > 2
    return directory


BATCHES = [torch.randint(10, (4, 7), generator=torch.Generator().manual_seed(i)) for i in range(3)]


@torch.no_grad()
def calibrate(prepared: nn.Module) -> None:
    for batch in BATCHES:
        prepared(batch)


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("cls", [GPTQConfig, RTNConfig])
@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_gives_what_the_model_in_memory_gives(
    cls: type[BaseConfig], files: Path, tmp_path: Path, journal: bool
) -> None:
    want = quantize(real(), cls(group_size=8), calibrate)  # type: ignore[call-arg]  # both have it
    model = prepare(empty(), cls(group_size=8, model_path=str(files)))  # type: ignore[call-arg]  # likewise
    with torch.no_grad():
        assert all(torch.equal(model(batch), real()(batch)) for batch in BATCHES)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    got = convert(model, journal=tmp_path / "journal" if journal else None)
    assert same(got, want)
    assert got.lm_head.weight is got.embedding.weight
    assert torch.equal(got(BATCHES[0]), want(BATCHES[0]))
    assert not any(module._forward_pre_hooks for module in got.modules())
    save(got, tmp_path / "saved")


def test_goes_on_where_it_was_stopped(files: Path, tmp_path: Path) -> None:
    config = GPTQConfig(group_size=8, act_order=True, model_path=str(files))
    want = quantize(real(), GPTQConfig(group_size=8, act_order=True), calibrate)

    def stop(name: str, done: int, total: int) -> None:
        del name, total
        if done == 2:
            raise KeyboardInterrupt

    model = prepare(empty(), config)
    calibrate(model)
    with pytest.raises(KeyboardInterrupt):
        convert(model, journal=tmp_path / "journal", progress=stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()}
    model = prepare(empty(), config)
    calibrate(model)
    assert same(convert(model, journal=tmp_path / "journal"), want)
    assert len(before) > 2
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_only_one_block_has_values_at_a_time(files: Path) -> None:
    model = prepare(empty(), GPTQConfig(group_size=8, model_path=str(files)))
    assert isinstance(model, Model)
    most: list[int] = []

    def look(*_: object) -> None:
        full = [block for block in model.blocks if any(not p.is_meta for p in block.parameters())]
        most.append(len(full))

    for block in model.blocks:
        assert isinstance(block, Block)
        block.norm.register_forward_hook(look)
    calibrate(model)
    assert most == [1] * 9


def test_layers_that_were_replaced_have_no_values(files: Path) -> None:
    model = empty()
    layers = [module for module in model.modules() if type(module) is nn.Linear and module is not model.lm_head]
    convert(model, RTNConfig(group_size=8, model_path=str(files)))
    assert len(layers) == 7
    assert all(layer.weight.is_meta for layer in layers)


def test_dtypes_are_those_of_the_model(files: Path) -> None:
    model = convert(empty().to(torch.bfloat16), RTNConfig(group_size=8, model_path=str(files)))
    want = convert(real().to(torch.bfloat16), RTNConfig(group_size=8))
    assert same(model, want)


def test_a_copy_leaves_the_model_as_it_is(files: Path) -> None:
    model = prepare(empty(), GPTQConfig(group_size=8, model_path=str(files)))
    calibrate(model)
    first = convert(model, inplace=False)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert same(first, convert(model))


def test_what_is_not_there_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all tensors of the model have values"):
        prepare(real(), RTNConfig(model_path=str(files)))
    with pytest.raises(LayerError, match="or set model_path"):
        convert(empty(), RTNConfig())
    larger = empty()
    larger.extra = nn.Linear(3, 3, device="meta")
    with pytest.raises(CheckpointError, match=r"has no extra\.weight, which the model has without values"):
        prepare(larger, RTNConfig(model_path=str(files)))
    wrong = empty()
    wrong.neck = nn.Linear(K, K + 1, device="meta")
    with pytest.raises(CheckpointError, match=r"neck\.\w+ has shape"):
        convert(wrong, RTNConfig(model_path=str(files)))
    tensors = real().state_dict()
    tensors["neck.weight"][0, 0] = torch.nan
    del tensors["lm_head.weight"]
    (tmp_path / "nan").mkdir()
    save_file(tensors, tmp_path / "nan" / "model.safetensors")
    with pytest.raises(LayerError, match="neck: a weight must be finite"):
        convert(empty(), RTNConfig(model_path=str(tmp_path / "nan")))


def test_values_are_taken_back_after_an_error(files: Path) -> None:
    model = empty()
    lender = Lender(model, files, ["blocks.0", "blocks.1", "blocks.2"])
    lender.attach(model)
    with pytest.raises(RuntimeError):
        model.blocks[0](torch.ones(2, K + 1))
    lender.detach()
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    with lender.lend(model.blocks[0]), lender.lend(model.blocks[0].a):
        pass
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert not any(isinstance(module, QuantLayer) for module in model.modules())


@torch.no_grad()
@pytest.mark.parametrize("quant_lm_head", [False, True])
def test_a_model_of_transformers(tiny_llama: Path, tmp_path: Path, quant_lm_head: bool) -> None:
    pytest.importorskip("accelerate")
    windows = torch.randint(256, (3, 40), generator=torch.Generator().manual_seed(0))

    def run(prepared: nn.Module) -> None:
        for window in windows:
            prepared(input_ids=window[None])

    config = GPTQConfig(dtype="mxfp4", quant_lm_head=quant_lm_head)
    want = quantize(load_model(tiny_llama), config, run)
    prepared = prepare(empty_model(tiny_llama).eval(), replace(config, model_path=str(tiny_llama)))
    run(prepared)
    got = convert(prepared, journal=tmp_path / "journal")
    assert same(got, want)
    tokens = torch.arange(12)[None]
    assert torch.equal(got(input_ids=tokens).logits, want(input_ids=tokens).logits)
