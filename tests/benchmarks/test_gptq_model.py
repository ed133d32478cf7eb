import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gptq_model
from benchmarks.gptq_model import compare


def test_the_text_is_cut_into_sequences_that_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokenizer:
        def from_pretrained(self, *_: object, **__: object) -> "Tokenizer":
            return self

        def __call__(self, text: str, *, verbose: bool) -> dict[str, list[int]]:
            assert not verbose
            return {"input_ids": list(range(min(len(text), 6 * 512 + 7)))}

    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers, "AutoTokenizer", Tokenizer())
    tokens = gptq_model._tokens(2)
    assert torch.equal(tokens, torch.arange(6 * 512).view(6, 512))
    with pytest.raises(ValueError, match="has 3079 tokens, and 3584 are asked for"):
        gptq_model._tokens(3)


def test_shares_are_those_of_medians(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seconds = {"incref": [3.0, 2.0, 7.0], "incref, one pass": [1.0, 3.0, 1.5], "neural-compressor-pt": [6.0, 5.0, 30.0]}
    (tmp_path / "neural-compressor-pt").mkdir()
    (tmp_path / "llmcompressor").mkdir()

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        name = command[command.index("--one") + 1]
        if name not in seconds:
            return subprocess.CompletedProcess(command, 1, stdout="", stderr="a trace\nOSError: no disk\n")
        result = {"seconds": seconds[name].pop(0), "error": 0.5, "version": "1"}
        return subprocess.CompletedProcess(command, 0, stdout=f"a warning\n{json.dumps(result)}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(gptq_model, "make_smollm2", lambda _: None)
    monkeypatch.setattr(gptq_model, "_tokens", lambda sequences: torch.zeros(sequences, 512))
    found = compare(tmp_path, sequences=1, rounds=3)
    assert found["incref"] == {
        "version": "1",
        "error": 0.5,
        "seconds": 3.0,
        "least": 2.0,
        "greatest": 7.0,
        "incref": 1.0,
        "incref, one pass": 0.5,
    }
    assert found["neural-compressor-pt"]["incref"] == 0.5
    assert found["neural-compressor-pt"]["incref, one pass"] == 0.25
    assert found["gptqmodel"] == {"version": "not measured: not installed"}
    assert found["llmcompressor"] == {"version": "not measured: OSError: no disk"}


def test_only_libraries_that_are_known_are_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gptq_model", "--one", "another"])
    with pytest.raises(SystemExit):
        gptq_model.main()
    assert "invalid choice: 'another'" in capsys.readouterr().err
