import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "autotune_rtn.py"


def test_finds_a_model_as_accurate_as_it_has_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLE))
    example["main"]()
    shown = capsys.readouterr().out.splitlines()
    # The first of the four: groups of 32 with zero points.
    assert "weight=uint4" in shown[1]
    accuracy = example["eval_fn"](example["make_model"]())
    words = shown[-1].split()
    assert words[1] == f"{accuracy:.3f}"
    assert accuracy > 0.9
    assert float(words[4]) >= accuracy * 0.99 - 0.0005
