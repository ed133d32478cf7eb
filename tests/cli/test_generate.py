import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from incref.cli.main import app
from incref.evaluation.cache import cache_weights
from incref.evaluation.generate import generate_greedily
from incref.evaluation.huggingface import load_any, load_tokenizer, stop_ids


def run(*arguments: str) -> object:
    return CliRunner().invoke(app, ["generate", *arguments])


def test_same_text_every_time(tiny_llama: Path) -> None:
    first, second = (run(str(tiny_llama), "ab", "--max-new-tokens", "5", "--json", "--quiet") for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    found = json.loads(first.stdout)
    assert found["prompt"] == "ab"
    assert len(found["token_ids"]) == 5


def test_quantized_directory(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["quantize", str(tiny_llama), str(out), "--scheme", "int8"]).exit_code == 0
    result = run(str(out), "ab", "--max-new-tokens", "4")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("ab")
    assert "4/4" in result.stderr


def test_damaged_quantized_directory(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    CliRunner().invoke(app, ["quantize", str(tiny_llama), str(out), "--scheme", "int8"])
    weights = out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = run(str(out), "ab")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_empty_prompt(tiny_llama: Path) -> None:
    result = run(str(tiny_llama), "")
    assert result.exit_code == 2
    assert "at least one token" in result.stderr


def test_chat_needs_a_template(tiny_llama: Path, tmp_path: Path) -> None:
    result = run(str(tiny_llama), "ab", "--chat")
    assert result.exit_code == 1
    assert "no chat template" in result.stderr
    copied = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (copied / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}?{% endfor %}")
    asked = run(str(copied), "ab", "--chat", "--json", "--quiet", "--max-new-tokens", "3")
    plain = run(str(copied), "ab?", "--json", "--quiet", "--max-new-tokens", "3")
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["token_ids"] == json.loads(plain.stdout)["token_ids"]


def test_another_backend(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    CliRunner().invoke(app, ["quantize", str(tiny_llama), str(out), "--scheme", "int4_g32"])
    auto = run(str(out), "ab", "--json", "--quiet", "--backend", "auto")
    assert auto.exit_code == 0, auto.output
    ids = load_tokenizer(out).encode("ab", add_special_tokens=True)
    model = load_any(out, backend="auto")
    cache_weights(model)
    made = generate_greedily(model, ids, max_new_tokens=64, stop_ids=stop_ids(out))
    assert json.loads(auto.stdout)["token_ids"] == made
    refused = run(str(out), "ab", "--backend", "nobody")
    assert refused.exit_code == 1
    assert "no backend is called 'nobody'" in refused.stderr
