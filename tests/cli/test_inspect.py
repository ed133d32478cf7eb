import json

import pytest
from typer.testing import CliRunner

from incref.cli.main import app
from incref.formats import FORMATS, BlockFormat, CodebookFormat, FloatFormat


def run(*arguments: str) -> object:
    return CliRunner().invoke(app, ["inspect", *arguments])


def rows(*arguments: str) -> list[dict[str, object]]:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, list)
    return found


def test_a_code() -> None:
    assert rows("0x7e", "--format", "e4m3fn") == [
        {
            "format": "float8_e4m3fn",
            "bits": "0 1111 110",
            "class": "normal",
            "value": "448",
            "exact": "448",
            "below": "416",
            "above": None,
        }
    ]


@pytest.mark.parametrize(
    ("code", "fmt", "kind", "value"),
    [
        ("0x7f", "e4m3fn", "NaN", "NaN"),
        ("0xfc", "e5m2", "Inf", "-Inf"),
        ("0x80", "e4m3fn", "zero", "-0"),
        ("0x80", "float8_e4m3fnuz", "NaN", "NaN"),
        ("0b1", "e2m1", "subnormal", "0.5"),
        ("0xf", "int4", "number", "-1"),
        ("0xf", "uint4", "number", "15"),
        ("0x0", "float8_e8m0fnu", "normal", "5.87747175411e-39"),
        ("0x8", "nf4", "number", "0.0795802995563"),
    ],
)
def test_classes(code: str, fmt: str, kind: str, value: str) -> None:
    (row,) = rows(code, "--format", fmt)
    assert (row["class"], row["value"]) == (kind, value)


def test_neighbours_are_those_of_the_list_of_values() -> None:
    for fmt in FORMATS.values():
        if isinstance(fmt, BlockFormat) or fmt.bits > 8 or fmt.is_experimental:
            continue
        finite = sorted({v for v in fmt.values if abs(v) < float("inf")})
        place = max(1, len(finite) // 3)
        code = fmt.values.index(finite[place])
        if not isinstance(fmt, FloatFormat | CodebookFormat):
            code = int(finite[place] * 2**fmt.fraction_bits) % (1 << fmt.bits)
        (row,) = rows(hex(code), "--format", fmt.name)
        above = f"{finite[place + 1]:.12g}" if place + 1 < len(finite) else None
        assert (row["below"], row["above"]) == (f"{finite[place - 1]:.12g}", above), fmt.name


def test_a_value() -> None:
    (row,) = rows("464.5", "--format", "e4m3fn")
    assert (row["code"], row["value"], row["error"], row["nonsaturate"]) == ("0x7e", "448", "-16.5", "NaN")
    (row,) = rows("0.3", "--format", "e2m1")
    assert row["value"] == "0.5"
    assert row["roundings"] == {"toward_zero": "0", "toward_negative": "0"}
    (row,) = rows("--format", "e2m1", "--", "-1/3")
    assert (row["code"], row["bits"], row["value"], row["exact"]) == ("0x9", "1 00 1", "-0.5", "-1/2")
    (row,) = rows("0x1.8p-7", "--format", "e4m3fn")
    assert row["exact"] == "3/256"


@pytest.mark.parametrize(("what", "value"), [("nan", "NaN"), ("inf", "57344"), ("-inf", "-57344"), ("-0", "-0")])
def test_special_values(what: str, value: str) -> None:
    (row,) = rows("--format", "e5m2", "--", what)
    assert row["value"] == value


def test_nan_where_there_is_none() -> None:
    (row,) = rows("nan", "--format", "int8")
    assert row == {"format": "int8", "bits": "none", "class": "no NaN", "value": "none"}


def test_all_formats_that_have_the_code() -> None:
    names = [row["format"] for row in rows("0x3f")]
    assert "float8_e4m3fn" in names
    assert "float6_e2m3fn" in names
    assert "float4_e2m1fn" not in names
    assert run("0x3").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zero"], "a code such as 0x7e, or a value"),
        (["1/0"], "a code such as 0x7e, or a value"),
        (["0x100", "--format", "e4m3fn"], "no such format has a code 0x100"),
        (["1", "--format", "e9"], "e9"),
        (["1", "--format", "mxfp4"], "codes of float4_e2m1fn and scales of float8_e8m0fnu"),
    ],
)
def test_what_makes_no_sense(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
