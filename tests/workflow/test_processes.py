"""Several processes give what one gives."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.gptq import GPTQConfig
from incref.errors import UnsupportedError
from incref.workflow.convert import convert
from incref.workflow.prepare import prepare
from incref.workflow.processes import Processes
from tests.workflow.test_blockwise import BATCHES, model

CONFIGS: dict[str, BaseConfig] = {
    "int4": GPTQConfig(group_size=16, act_order=True, use_sym=False),
    "mxfp4 sequential": GPTQConfig(dtype="mxfp4", true_sequential=True),
    "double": GPTQConfig(group_size=8, use_double_quant=True),
}
SIZE = 2


def run(config: BaseConfig, batches: list[torch.Tensor], journal: Path | None, group: object = None) -> nn.Module:
    prepared = prepare(model(), config)
    with torch.no_grad():
        for batch in batches:
            prepared(batch)
    return convert(prepared, journal=journal, group=group)  # type: ignore[arg-type]  # a group, or None


def work(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(directory / "store"), SIZE)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=SIZE, timeout=timedelta(seconds=60))
    group = dist.group.WORLD
    # The shares differ in size, and one is given last batch first.
    own = BATCHES[:1] if rank == 0 else BATCHES[:0:-1]
    for name, config in CONFIGS.items():
        journal = directory / f"{name} journal"
        for attempt in range(2):
            converted = run(config, own, journal if name != "double" else None, group)
            torch.save(converted.state_dict(), directory / f"{name} {rank} {attempt}")
    with pytest.raises(ValueError, match="there is none"):
        run(CONFIGS["int4"], own[: 1 - rank], None, group)
    with pytest.raises(UnsupportedError, match="measured by one process"):
        run(FP8Config(), own, None, group)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("processes")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(work, (directory,), nprocs=SIZE)  # type: ignore[no-untyped-call]  # untyped in torch
    return directory


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_give_the_bytes_of_one(name: str, results: Path) -> None:
    want = run(CONFIGS[name], BATCHES, None).state_dict()
    for rank in range(SIZE):
        for attempt in range(2):
            got = torch.load(results / f"{name} {rank} {attempt}")
            assert got.keys() == want.keys()
            assert all(torch.equal(got[key], tensor) for key, tensor in want.items())


def test_a_journal_of_two_processes_is_one_of_one(results: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (results / "int4 journal").iterdir()}
    run(CONFIGS["int4"], BATCHES, results / "int4 journal")
    assert {path: path.stat().st_mtime_ns for path in (results / "int4 journal").iterdir()} == files
    assert len(files) == 8 + 1


def test_one_process_alone() -> None:
    alone = Processes()
    assert (alone.rank, alone.size, alone.gather("x")) == (0, 1, ["x"])
