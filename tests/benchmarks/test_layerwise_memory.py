import json
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("option", ["--small", "--rtn"])
def test_one_block_is_in_memory_at_a_time(option: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.layerwise_memory", option],  # this program
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(ran.stdout)
    # The whole model would not be within the bound.
    assert result["peak_bytes"] <= result["bound_bytes"] < result["model_bytes"] * 0.6
