import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from incref.cli.main import app
from incref.config.gptq import GPTQConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.evaluation.calibrate import convert_with_text
from incref.evaluation.huggingface import load_model
from incref.modules.layer import QuantLayer
from incref.modules.matmul import QuantMatmul


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


@pytest.mark.parametrize("name", SCHEMES)
def test_bytes_are_those_of_the_converted_model(tiny_llama: Path, name: str) -> None:
    found = json.loads(run(tiny_llama, "--scheme", name, "--json").stdout)
    tokens = torch.randint(0, 256, (4, 64), generator=torch.Generator().manual_seed(0))
    model = convert_with_text(load_model(tiny_llama), SCHEMES[name], tokens, inplace=True)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}
    products = {n for n, m in model.named_modules() if isinstance(m, QuantMatmul)}
    assert len(products) == (4 if name.endswith("attention") else 0)
    assert {row["layer"] for row in found if row["becomes"]} == set(layers) | products
    for row in found:
        if row["layer"] in layers:
            qweight = layers[row["layer"]].qweight
            assert row["bytes"] == qweight.nbytes, row
            assert row["bits_per_weight"] == qweight.bits_per_element


def test_table(tiny_llama: Path) -> None:
    result = run(tiny_llama, "--scheme", "mxfp4")
    assert result.exit_code == 0, result.output
    assert "shares its weight with another kind" in " ".join(result.stdout.replace("│", "").split())
    assert result.stdout.splitlines()[-1].endswith("MB then")


def test_a_configuration(tiny_llama: Path, tmp_path: Path) -> None:
    config = GPTQConfig(group_size=32, act_order=True).set_local("model.layers.1", RTNConfig(dtype="fp32"))
    config.to_json_file(tmp_path / "config.json")
    rows = {
        row["layer"]: row for row in json.loads(run(tiny_llama, "--config", tmp_path / "config.json", "--json").stdout)
    }
    assert rows["model.layers.0.mlp.up_proj"]["becomes"] == "int4, groups of 32, GPTQ"
    assert rows["model.layers.0.mlp.up_proj"]["reason"] == "every layer"
    assert rows["model.layers.1.mlp.up_proj"]["becomes"] is None
    assert rows["model.layers.1.mlp.up_proj"]["reason"] == "the rule 'model.layers.1' leaves it alone"


def test_what_makes_no_sense(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "typo.json").write_text('{"name": "rtn", "bit": 4}')
    assert run(tiny_llama).exit_code == 2
    assert run(tiny_llama, "--scheme", "mxfp4", "--config", tmp_path / "bad.json").exit_code == 2
    assert "no configuration" in _message(run(tiny_llama, "--config", tmp_path / "bad.json"))
    assert "is one configuration's, got 0" in _message(run(tiny_llama, "--config", tmp_path / "list.json"))
    assert run(tiny_llama, "--config", tmp_path / "typo.json").exit_code != 0


def _message(result: Result) -> str:
    """Undo how a message is broken into the lines of a box."""
    return " ".join(result.stderr.replace("│", " ").split())
