"""Conversions that are stopped and started again."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from incref.config.base import BaseConfig
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.errors import CheckpointError
from incref.workflow import hessian_step, layers, one_pass
from incref.workflow.convert import convert
from incref.workflow.prepare import prepare
from incref.workflow.quantize import quantize
from tests.workflow.test_blockwise import BATCHES, calibrate, model

SEQUENTIAL = GPTQConfig(group_size=16, act_order=True, true_sequential=True, use_double_quant=True)
CONFIGS: dict[str, BaseConfig] = {
    "gptq": GPTQConfig(group_size=16),
    "sequential": SEQUENTIAL,
    "mixed": SEQUENTIAL.set_local(r"blocks\.0\.a", RTNConfig(dtype="nf4")),
    "rtn": RTNConfig(),
}


def state(converted: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in converted.state_dict().items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_run_that_was_stopped_goes_on(config: BaseConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = state(quantize(model(), config, calibrate))
    made: list[str] = []
    for module, function in (
        (hessian_step, "quantize_by_hessian"),
        (one_pass, "quantize_by_hessian"),
        (layers, "quantize_weight"),
    ):
        original = getattr(module, function)

        def count(*args: object, original: object = original, **options: object) -> object:
            made.append("one")
            return original(*args, **options)  # type: ignore[operator]  # the function of that name

        monkeypatch.setattr(module, function, count)

    def stop(name: str, done: int, total: int) -> None:
        del name, total
        if done == 3:
            raise KeyboardInterrupt

    for _ in range(2):
        # The second run is stopped before it has done anything new.
        prepared = prepare(model(), config)
        calibrate(prepared)
        with pytest.raises(KeyboardInterrupt):
            convert(prepared, journal=tmp_path / "journal", progress=stop)
    before = len(made)
    seen: list[int] = []
    prepared = prepare(model(), config)
    calibrate(prepared)
    after = convert(prepared, journal=tmp_path / "journal", progress=lambda _, done, total: seen.append(total - done))
    assert state(after) == want
    assert seen == [7, 6, 5, 4, 3, 2, 1, 0]
    assert before == 3
    assert len(made) - before == 8 - 3
    # A third time there is nothing left to do.
    made.clear()
    prepared = prepare(model(), config)
    calibrate(prepared)
    assert state(convert(prepared, journal=tmp_path / "journal")) == want
    assert not made


def test_another_model_configuration_or_calibration_is_another_run(tmp_path: Path) -> None:
    config = CONFIGS["gptq"]

    def run(float_model: nn.Module, batches: list[torch.Tensor], own: BaseConfig = config) -> None:
        prepared = prepare(float_model, own)
        for batch in batches:
            prepared(batch)
        convert(prepared, journal=tmp_path / "journal")

    run(model(), BATCHES)
    # The order of batches changes nothing.
    run(model(), BATCHES[::-1])
    other = copy.deepcopy(model())
    with torch.no_grad():
        other.tail.weight[0, 0] += 1
    for arguments in ((other, BATCHES), (model(), BATCHES[:2]), (model(), BATCHES, SEQUENTIAL)):
        with pytest.raises(CheckpointError, match="the journal of another run"):
            run(*arguments)  # type: ignore[arg-type]  # two or three
