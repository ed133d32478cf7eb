import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from incref.cli.main import app
from incref.evaluation.huggingface import load_any


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def own(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "model"
    result = run("quantize", tiny_llama, out, "--scheme", "int4_g32", "--quiet")
    assert result.exit_code == 0, result.output
    return out


def logits(directory: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load_any(directory)(input_ids=torch.arange(12)[None]).logits
    return found


def test_around_all_layouts_and_back(own: Path, tmp_path: Path) -> None:
    before = own
    for to in ("gptq_v1", "awq", "compressed-tensors", "gptq_v2", "incref", "gptq_v1"):
        out = tmp_path / f"{before.name}-{to}"
        rounds = ["--scale-dtype", "float16"] if before is own else []
        result = run("convert-checkpoint", before, out, "--to", to, "--max-shard-size", "50KB", *rounds)
        assert result.exit_code == 0, result.output
        assert len(list(out.glob("*.safetensors"))) > 1
        assert (out / "tokenizer.json").is_file()
        assert (out / "incref.json").is_file() == (to == "incref")
        assert (out / "quantize_config.json").is_file() == to.startswith("gptq")
        if before is not own:
            assert torch.equal(logits(out), logits(before))
        before = out
    first, last = tmp_path / "model-gptq_v1", before
    for path in first.glob("*.safetensors"):
        again = load_file(last / path.name)
        assert all(torch.equal(tensor, again[name]) for name, tensor in load_file(path).items())


def test_json(own: Path, tmp_path: Path) -> None:
    result = run("convert-checkpoint", own, tmp_path / "x", "--to", "compressed-tensors", "--json")
    found = json.loads(result.stdout)
    assert found["layout"] == "compressed-tensors"
    assert (found["layers"], found["bits_per_weight"]) == (14, 5.0)
    assert found["file_bytes"] == (tmp_path / "x" / "model.safetensors").stat().st_size
    assert torch.equal(logits(tmp_path / "x"), logits(own))


def test_scales_are_not_rounded_unasked(own: Path, tmp_path: Path) -> None:
    result = run("convert-checkpoint", own, tmp_path / "x", "--to", "gptq_v2")
    assert result.exit_code == 1
    assert "scales must be float16 numbers in this layout" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "gguf"], 2, "'gguf' is not one of"),
        (["--to", "incref", "--scale-dtype", "float16"], 2, "keeps scales as they are"),
        (["--to", "awq", "--max-shard-size", "many"], 2, "a size is a positive number of bytes"),
        (["--to", "incref"], 1, "the model is not quantized; incref quantize does that"),
    ],
)
def test_what_can_not_be_done(tiny_llama: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = run("convert-checkpoint", tiny_llama, tmp_path / "x", *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(own: Path, tmp_path: Path) -> None:
    result = run("convert-checkpoint", own, tmp_path, "--to", "incref")
    assert result.exit_code == 2
    assert "must not be there yet" in " ".join(result.stderr.replace("│", " ").split())
