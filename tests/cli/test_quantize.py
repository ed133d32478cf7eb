import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from incref.cli import quantize as module
from incref.cli.main import app
from incref.config.schemes import SCHEMES
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.huggingface import load_any, load_model, load_tokenizer
from incref.workflow.convert import convert


def run(directory: Path, out: Path, *arguments: str) -> object:
    return CliRunner().invoke(app, ["quantize", str(directory), str(out), *arguments])


@pytest.mark.parametrize("scheme", ["int4_g128", "mxfp4_w4a4"])
def test_saved_model_computes_what_the_converted_one_does(tiny_llama: Path, tmp_path: Path, scheme: str) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", scheme, "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        got = load_any(tmp_path / "out")(input_ids=tokens).logits
        want = convert(load_model(tiny_llama), SCHEMES[scheme])(input_ids=tokens).logits
    assert torch.equal(got, want)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tiny_llama / "tokenizer.json").read_bytes()


def test_calibrated_with_the_end_of_a_text(tiny_llama: Path, tmp_path: Path) -> None:
    text = "".join(chr(97 + i * i % 26) for i in range(600))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    options = ["--text", str(tmp_path / "text.txt"), "--window", "48", "--calibration-windows", "5", "--quiet"]
    result = run(tiny_llama, tmp_path / "out", "--scheme", "gptq_int4_g128_act_order", *options)
    assert result.exit_code == 0, result.output
    # 12 windows of 48 fit; a token is a byte.
    windows = torch.tensor([load_tokenizer(tiny_llama).encode(text[48 * i : 48 * (i + 1)]) for i in range(7, 12)])
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        got = load_any(tmp_path / "out")(input_ids=tokens).logits
        model = convert_with_text(load_model(tiny_llama), SCHEMES["gptq_int4_g128_act_order"], windows, inplace=True)
        want = model(input_ids=tokens).logits
    assert torch.equal(got, want)


def test_json(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "mxfp4", "--json")
    found = json.loads(result.stdout)
    assert found["bits_per_weight"] == 4.25
    assert found["file_bytes"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert found["file_bytes_before"] == (tiny_llama / "model.safetensors").stat().st_size


def test_nothing_is_overwritten(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = run(tiny_llama, tmp_path / "out", "--scheme", "mxfp4")
    assert result.exit_code == 2
    assert "must not be there yet" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_nothing_half_written_stays(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(module, "copy_tokenizer", fail)
    result = run(tiny_llama, tmp_path / "out", "--scheme", "mxfp4")
    assert result.exit_code == (130 if failure is KeyboardInterrupt else 1)
    assert list(tmp_path.iterdir()) == []


def test_layer_that_cannot_be_quantized_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    tensors = load_file(copied / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    result = run(copied, tmp_path / "out", "--scheme", "mxfp4")
    assert result.exit_code == 1
    assert "error: model.layers.1.mlp.up_proj: a weight must be finite" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_truncated_model(tiny_llama: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = run(copied, tmp_path / "out", "--scheme", "mxfp4")
    assert result.exit_code == 1
    assert "not a whole safetensors file" in result.stderr


def test_unknown_scheme(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "int5")
    assert result.exit_code == 2
    assert "int8" in result.stderr


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (["--format", "huggingface"], "compressed-tensors"),
        (["--layout", "gptq_v2", "--scale-dtype", "float16"], "gptq"),
        (["--format", "huggingface", "--layout", "awq", "--scale-dtype", "float16"], "awq"),
    ],
)
def test_layouts_for_engines(tiny_llama: Path, tmp_path: Path, options: list[str], method: str) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "int4_g32", "--json", "--max-shard-size", "50KB", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layout"] is not None
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == method
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    with torch.no_grad():
        assert load_any(tmp_path / "out")(input_ids=torch.arange(12)[None]).logits.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [["--format", "default", "--layout", "awq"], ["--scale-dtype", "float8"], ["--format", "gguf"]],
)
def test_options_that_contradict_each_other(tiny_llama: Path, tmp_path: Path, options: list[str]) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "int4_g32", *options)
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_layout_that_does_not_hold_the_scheme(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "mxint8", "--format", "huggingface", "--quiet")
    assert result.exit_code == 1
    assert "compressed-tensors has no mxint8" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_journal_lets_the_same_command_go_on(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    options = ("--scheme", "mxfp4", "--quiet", "--journal", str(tmp_path / "journal"))
    with monkeypatch.context() as context:
        context.setattr(module, "copy_tokenizer", stop)
        result = run(tiny_llama, tmp_path / "out", *options)
    assert result.exit_code == 130
    assert "The same command goes on with the layers in" in result.stderr.replace("\n", " ")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()}
    assert len(files) > 1
    assert run(tiny_llama, tmp_path / "out", *options).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()} == files
    assert run(tiny_llama, tmp_path / "plain", *options[:3]).exit_code == 0
    file = "model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


@pytest.mark.parametrize("scheme", ["mxfp4", "gptq_int4_g128"])
def test_layer_by_layer_gives_the_same_files_and_goes_on(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + i * i % 26) for i in range(300)), encoding="utf-8")
    options = ("--scheme", scheme, "--text", str(text), "--window", "48", "--calibration-windows", "3", "--quiet")
    assert run(tiny_llama, tmp_path / "plain", *options).exit_code == 0
    options += ("--layer-wise", "--journal", str(tmp_path / "journal"))
    monkeypatch.setattr(module, "load_model", refuse)
    with monkeypatch.context() as context:
        context.setattr(module, "copy_tokenizer", stop)
        assert run(tiny_llama, tmp_path / "out", *options).exit_code == 130
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()}
    result = run(tiny_llama, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "journal").iterdir()} == files
    for path in (tmp_path / "plain").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_layer_by_layer_refuses_what_is_measured_in_a_whole_model(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(tiny_llama, tmp_path / "out", "--scheme", "int8_static", "--layer-wise")
    assert result.exit_code == 2
    assert "int8_static measures what layers are fed" in result.stderr.replace("\n", " ").replace("│ ", "")
