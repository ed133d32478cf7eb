import json
import math
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "fp8_resnet18.py"


@pytest.mark.parametrize(("target", "fmt"), [("gaudi2", "float8_e4m3"), ("ocp", "float8_e4m3fn")])
def test_scores_stay_near_those_of_the_float_model(
    target: str, fmt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = runpy.run_path(str(EXAMPLE))
    path = tmp_path / "measure"
    example["main"](["--size", "64", "--batches", "1", "--target", target, "--dump-stats-path", str(path)])
    shown = capsys.readouterr().out
    assert f"activation={fmt}, static" in shown
    words = shown.splitlines()[-1].split()
    # 17 convolutions and 3 on the ways around, and the linear layer.
    layers = 21
    assert len(json.loads((tmp_path / "measure_maxabs.json").read_text())["input_amax"]) == layers
    # Input and weight of a layer are each off by at most 2^-4, and these errors add as independent ones do; a wrong
    # scale anywhere makes noise of the scores, with an error near 1.
    assert 0 < float(words[words.index("error") + 1].rstrip(",")) < math.sqrt(2 * layers) * 2**-4


def test_is_a_resnet18() -> None:
    model = runpy.run_path(str(EXAMPLE))["ResNet18"]()
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
