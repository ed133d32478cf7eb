from pathlib import Path

import pytest
import torch

from incref.checkpoints.journal import Journal
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.evaluation import compare as module
from incref.evaluation.compare import compare
from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import window_nll
from incref.evaluation.result import FLOAT32
from incref.workflow.convert import convert

TOKENS = torch.arange(48).view(3, 16)


class Log:
    def __init__(self) -> None:
        self.known: dict[str, bool] = {}
        self.windows = 0
        self.layers = 0

    def scheme(self, name: str, *, is_known: bool) -> None:
        self.known[name] = is_known

    def layer(self, name: str, done: int, total: int) -> None:  # noqa: ARG002  # as Watch has it
        self.layers += 1

    def window(self) -> None:
        self.windows += 1


def run(directory: Path, schemes: list[str], journal: Path, log: Log | None = None) -> dict[str, tuple[float, ...]]:
    found = compare(directory, schemes, TOKENS, journal=Journal(journal), watch=log or Log())
    return {evaluation.scheme: evaluation.nll for evaluation in found}


def test_each_row_is_the_model_converted_alone(tiny_llama: Path, tmp_path: Path) -> None:
    log = Log()
    got = run(tiny_llama, [FLOAT32, "mxfp4", "nvfp4_w4a4"], tmp_path, log)
    want = {FLOAT32: load_model(tiny_llama)}
    want |= {name: convert(load_model(tiny_llama), SCHEMES[name]) for name in ("mxfp4", "nvfp4_w4a4")}
    assert got == {name: tuple(window_nll(model, TOKENS).tolist()) for name, model in want.items()}
    assert log.windows == 3 * 3
    # Two layers of seven, twice.
    assert log.layers == 2 * 14


def test_what_is_known_is_not_computed_again(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tiny_llama, [FLOAT32, "int8"], tmp_path)
    monkeypatch.setattr(module, "load_model", None)
    log = Log()
    assert run(tiny_llama, ["int8", FLOAT32], tmp_path, log) == first
    assert log.known == {"int8": True, FLOAT32: True}
    assert log.windows == 0


def test_result_counts_for_its_tokens_and_model_only(tiny_llama: Path, tmp_path: Path) -> None:
    run(tiny_llama, [FLOAT32], tmp_path)
    log = Log()
    list(compare(tiny_llama, [FLOAT32], TOKENS[:2], journal=Journal(tmp_path), watch=log))
    assert log.known == {FLOAT32: False}


def test_interruption_keeps_what_is_done(tiny_llama: Path, tmp_path: Path) -> None:
    class Interrupting(Log):
        def window(self) -> None:
            super().window()
            if self.windows == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_llama, [FLOAT32, "int8"], tmp_path, Interrupting())
    log = Log()
    run(tiny_llama, [FLOAT32, "int8"], tmp_path, log)
    assert log.known == {FLOAT32: True, "int8": False}


def test_sizes_are_those_of_the_files(tiny_llama: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    base, other = compare(tiny_llama, [FLOAT32, "mxfp8_e4m3"], TOKENS, journal=journal, watch=Log())
    assert base.file_bytes == (tiny_llama / "model.safetensors").stat().st_size
    # Codes of 8 bits and a scale of 8 bits for every 32, with no ragged blocks in this model.
    assert other.size.bits_per_weight == 8.25
    saved = base.file_bytes - other.file_bytes
    # The headers differ too, by less than a kilobyte for each of 14 layers.
    assert abs(saved - other.size.weight_elements * (32 - 8.25) / 8) < 14 * 1024


def test_wrong_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        run(tmp_path, [FLOAT32], tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
