import json
from pathlib import Path

import torch
from click.testing import Result
from typer.testing import CliRunner

from incref import RTNConfig
from incref.cli.main import app
from incref.evaluation.huggingface import load_any


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["autotune", *map(str, arguments)])


def _message(result: Result) -> str:
    """Undo how a message is broken into the lines of a box."""
    return " ".join(result.stderr.replace("│", " ").split())


def _text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + i * i % 26) for i in range(600)), encoding="utf-8")
    return path


def test_the_smallest_that_is_good_enough_is_written(tiny_llama: Path, tmp_path: Path) -> None:
    RTNConfig(bits=[2, 8]).to_json_file(tmp_path / "space.json")  # type: ignore[arg-type]
    options = ["--text", _text(tmp_path), "--window", 48, "--windows", 3, "--calibration-windows", 5, "--quiet"]
    limits = ["--all", "--tolerance", 0.001, "--journal", tmp_path / "trials"]
    found = run(
        tiny_llama, tmp_path / "out", "--config", tmp_path / "space.json", "--scheme", "gptq_int4_g128", "--json",
        *options, *limits,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert [trial["configuration"] for trial in result["trials"]] == [
        "gptq_int4_g128",
        "RTNConfig(bits=2)",
        "RTNConfig(bits=8)",
    ]
    bound = 1.001 * result["float32"]["perplexity"]
    assert [trial["is_met"] for trial in result["trials"]] == [t["perplexity"] <= bound for t in result["trials"]]
    met = [trial for trial in result["trials"] if trial["is_met"]]
    assert result["is_met"]
    assert result["best"] == min(met, key=lambda trial: trial["bytes"])["number"]
    assert all(trial["bytes"] < result["float32"]["bytes"] for trial in result["trials"])
    with torch.no_grad():
        assert load_any(tmp_path / "out")(input_ids=torch.arange(12)[None]).logits.isfinite().all()
    again = run(tiny_llama, "--config", tmp_path / "space.json", "--scheme", "gptq_int4_g128", *options, *limits)
    assert again.stdout.count("from the journal") == 3
    assert again.stdout.splitlines()[-1].startswith("A loss of 0.001 (relative) was tolerable, and trial ")


def test_nothing_to_try_is_refused(tiny_llama: Path) -> None:
    result = run(tiny_llama)
    assert result.exit_code == 2
    assert "give schemes, or a file of configurations" in result.stderr


def test_a_directory_that_is_there_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path, "--scheme", "mxfp4")
    assert result.exit_code == 2
    assert "must not be there yet" in result.stderr


def test_schemes_are_not_mixed_layer_by_layer(tiny_llama: Path) -> None:
    result = run(tiny_llama, "--scheme", "mxfp4", "--per-layer")
    assert result.exit_code == 2
    assert "configurations of a file, not schemes" in _message(result)


def test_layers_are_mixed(tiny_llama: Path, tmp_path: Path) -> None:
    RTNConfig(bits=[2, 8]).to_json_file(tmp_path / "space.json")  # type: ignore[arg-type]
    options = ["--text", _text(tmp_path), "--window", 48, "--windows", 2, "--calibration-windows", 2, "--quiet"]
    result = run(
        tiny_llama, "--config", tmp_path / "space.json", "--per-layer", "--all", "--max-trials", 2, "--json", *options
    )
    assert result.exit_code == 0, result.output
    assert [trial["number"] for trial in json.loads(result.stdout)["trials"]] == [1, 2]


def test_a_text_is_not_kept_for_calibration_that_nothing_needs(tiny_llama: Path, tmp_path: Path) -> None:
    options = ["--text", _text(tmp_path), "--window", 48, "--windows", 12, "--calibration-windows", 5, "--quiet"]
    assert run(tiny_llama, "--scheme", "mxfp4", *options).exit_code == 0
    result = run(tiny_llama, "--scheme", "gptq_mxfp4", *options)
    assert result.exit_code == 2
    assert "12 + 5 are needed" in _message(result)


def test_a_file_that_holds_no_configuration(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"name": "rtn", "bit": 4}]')
    result = run(tiny_llama, "--config", tmp_path / "bad.json")
    assert result.exit_code == 2
    assert "no field 'bit'" in _message(result)


def test_attention_is_quantized_where_a_scheme_says_so(tiny_llama: Path, tmp_path: Path) -> None:
    options = ["--text", _text(tmp_path), "--window", 48, "--windows", 2, "--all", "--json", "--quiet"]
    result = run(tiny_llama, "--scheme", "mxfp4_w4a4", "--scheme", "mxfp4_w4a4_attention", *options)
    assert result.exit_code == 0, result.output
    first, second = (trial["perplexity"] for trial in json.loads(result.stdout)["trials"])
    assert first != second
