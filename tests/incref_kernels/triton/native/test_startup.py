import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import incref_kernels.triton.native.startup as module

SCRIPT = """
import torch, triton, triton.language as tl

@triton.jit
def increment_kernel(x):
    tl.store(x, tl.load(x) + 1)

x = torch.zeros(1)
increment_kernel[(1,)](x)
print(x.item())
"""


@pytest.mark.parametrize(("value", "code"), [("1", 0), ("0", 1), ("", 1)])
def test_a_script_that_knows_nothing_of_it(tmp_path: Path, value: str, code: int) -> None:
    shutil.copy(Path(module.__file__).with_suffix(".pth"), tmp_path / "incref_triton_native.pth")
    (tmp_path / "script.py").write_text(SCRIPT)
    # What Python does with the directory that packages are installed to.
    start = f"import runpy, site; site.addsitedir({str(tmp_path)!r}); runpy.run_path({str(tmp_path / 'script.py')!r})"
    environment = {**os.environ, "TRITON_NATIVE": value}
    run = subprocess.run([sys.executable, "-c", start], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == code, run.stderr
    assert run.stdout == ("1.0\n" if code == 0 else "")
