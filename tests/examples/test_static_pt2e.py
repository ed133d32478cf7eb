import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "static_pt2e.py"


@pytest.mark.filterwarnings("ignore::incref.errors.LoweringWarning", "ignore::FutureWarning:copyreg")
def test_every_step_stays_near_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchao", reason="captured graphs are quantized by torchao, which is not installed")
    example = runpy.run_path(str(EXAMPLE))
    example["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["converted", "exact", "compiled"]
    # 8 bits for inputs and weights of three layers.
    assert all(0 < float(line.split()[1]) < 3 for line in lines)
