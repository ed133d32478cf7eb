import json

from typer.testing import CliRunner

from incref.cli.main import app
from incref.formats import FORMATS


def run(*arguments: str) -> object:
    return CliRunner().invoke(app, ["formats", *arguments])


def test_every_format_is_a_row() -> None:
    result = run()
    assert result.exit_code == 0
    assert [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line] == list(FORMATS)


def test_json_has_the_limits() -> None:
    e4m3, mxfp4 = json.loads(run("e4m3fn", "mxfp4", "--json").stdout)
    assert (e4m3["name"], e4m3["qmax"], e4m3["smallest_positive"]) == ("float8_e4m3fn", 448.0, 2.0**-9)
    assert (mxfp4["name"], mxfp4["bits"], mxfp4["qmax"]) == ("mxfp4", 4.25, 6.0)


def test_json_of_all_formats_is_strict() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert [row["name"] for row in json.loads(run("--json").stdout, parse_constant=refuse)] == list(FORMATS)


def test_unknown_format_lists_the_nearest() -> None:
    result = run("mxfp5")
    assert result.exit_code == 2
    assert "mxfp4" in result.stderr
