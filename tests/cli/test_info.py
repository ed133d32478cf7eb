import json
import platform

import torch
from typer.testing import CliRunner

from incref.cli.main import app


def test_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert found["backends"]["reference"] is None
    assert "encode" in found["operations"]["reference"]
    assert found["operations"].keys() == {name for name, reason in found["backends"].items() if reason is None}


def test_table() -> None:
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    assert "backend reference" in result.stdout
