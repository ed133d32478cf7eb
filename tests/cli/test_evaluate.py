import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from incref.cli.evaluate import tokens_of
from incref.cli.main import app
from incref.config.schemes import SCHEMES
from incref.evaluation import compare as compare_module
from incref.evaluation.cache import cache_weights
from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import window_nll
from incref.evaluation.result import FLOAT32
from incref.workflow.quantize import quantize


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("The quick brown fox jumps over the lazy dog. " * 4, encoding="utf-8")
    return file


def run(directory: Path, journal: Path, *arguments: str) -> object:
    small = ["--windows", "2", "--window", "24", "--journal", str(journal)]
    return CliRunner().invoke(app, ["eval", str(directory), *small, *arguments])


def test_every_scheme_is_a_row(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path, "--json", "--quiet", "--calibration-windows", "12")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["scheme"] for row in found["rows"]] == [FLOAT32, *SCHEMES]
    assert found["text"] == "pydoc_data.topics"
    assert (found["windows"], found["window"]) == (2, 24)
    base = found["rows"][0]
    assert base["bits_per_weight"] == 32.0
    assert base["delta_nll"] == 0.0
    assert all(len(row["nll"]) == 2 and row["file_bytes"] < base["file_bytes"] for row in found["rows"][1:])


def test_calibration_needs_enough_text(tiny_llama: Path, tmp_path: Path, text: Path) -> None:
    arguments = ["--scheme", "gptq_int4_g128", "--text", str(text)]
    result = run(tiny_llama, tmp_path, *arguments, "--calibration-windows", "6")
    assert result.exit_code == 2
    assert "the text has 7 windows of 24 tokens, and 2 + 6 are needed" in " ".join(
        result.stderr.replace("│", "").split()
    )
    assert run(tiny_llama, tmp_path, *arguments, "--calibration-windows", "5").exit_code == 0


def test_table_is_printed_and_bars_go_to_stderr(tiny_llama: Path, tmp_path: Path, text: Path) -> None:
    result = run(tiny_llama, tmp_path, "--scheme", "mxint8", "--text", str(text))
    assert result.exit_code == 0, result.output
    assert "Perplexity over 2 windows" in result.stdout
    assert [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line] == [FLOAT32, "mxint8"]
    assert "2/2" not in result.stdout
    assert "4/4" in result.stderr


def test_quiet_shows_no_bars(tiny_llama: Path, tmp_path: Path, text: Path) -> None:
    result = run(tiny_llama, tmp_path, "--scheme", "int8", "--text", str(text), "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""


def test_interrupted_run_goes_on(tiny_llama: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--scheme", "int8", "--scheme", "mxfp4", "--text", str(text), "--json", "--quiet"]
    whole = run(tiny_llama, tmp_path / "whole", *arguments)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # The float model is evaluated; the first scheme is not.
        patch.setattr(compare_module, "convert_with_text", interrupt)
        result = run(tiny_llama, tmp_path / "journal", *arguments)
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted. Results so far are in")
    assert len(list((tmp_path / "journal").iterdir())) == 1
    again = run(tiny_llama, tmp_path / "journal", *arguments)
    assert [row["nll"] for row in json.loads(again.stdout)["rows"]] == [
        row["nll"] for row in json.loads(whole.stdout)["rows"]
    ]


def test_results_are_kept_in_the_cache(
    tiny_llama: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["--windows", "1", "--window", "8", "--text", str(text), "--scheme", "mxfp4", "--quiet"]
    result = CliRunner().invoke(app, ["eval", str(tiny_llama), *arguments])
    assert result.exit_code == 0
    # One window has no standard error.
    assert "nan" not in result.stdout
    # The float model is evaluated, too.
    assert len(list((tmp_path / "cache" / "incref" / "eval").iterdir())) == 2


def test_unknown_scheme_lists_the_nearest(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path, "--scheme", "mxfp_4")
    assert result.exit_code == 2
    assert "mxfp4" in result.stderr


def test_text_that_is_too_short(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("short")
    result = run(tiny_llama, tmp_path / "journal", "--text", str(tmp_path / "text"))
    assert result.exit_code == 2
    assert "must fill a window of 24" in result.stderr
    assert not (tmp_path / "journal").exists()


def test_directory_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty", tmp_path / "journal")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_no_directory(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", tmp_path)
    assert result.exit_code == 2
    assert "does not exist" in re.sub(r"[\s│]+", " ", result.stderr)


def test_another_backend_is_another_result(tiny_llama: Path, tmp_path: Path, text: Path) -> None:
    arguments = ["--scheme", "int4_g32", "--text", str(text), "--json", "--quiet"]
    plain, auto = (run(tiny_llama, tmp_path, *arguments, *more) for more in ([], ["--backend", "auto"]))
    assert plain.exit_code == 0, plain.output
    assert auto.exit_code == 0, auto.output
    model = quantize(load_model(tiny_llama), SCHEMES["int4_g32"], backend="auto")
    cache_weights(model)
    expected = window_nll(model, tokens_of(tiny_llama, text, window=24, windows=2))
    assert json.loads(auto.stdout)["rows"][1]["nll"] == expected.tolist()
    assert len(list(tmp_path.glob("*.json"))) == 3
    refused = run(tiny_llama, tmp_path, *arguments, "--backend", "nobody")
    assert refused.exit_code == 1
    assert "no backend is called 'nobody'" in refused.stderr
