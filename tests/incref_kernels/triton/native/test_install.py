import subprocess
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl

from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.install import installed

SCRIPT = """
import sys, torch, triton, triton.language as tl
DEVICE = triton.runtime.driver.active.get_active_torch_device()

@triton.autotune(configs=[triton.Config({"N": 64}), triton.Config({"N": 128})], key=["n"])
@triton.jit
def double(x, n, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(x + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)

x = torch.arange(int(sys.argv[1]), device=DEVICE)
double[lambda given: (triton.cdiv(len(x), given["N"]),)](x, len(x))
print(x.tolist())
"""


@triton.jit
def increment_kernel(x):
    tl.store(x, tl.load(x) + 1)


def test_launches_inside_the_block_run_on_the_cpu_and_the_driver_is_put_back() -> None:
    x = torch.zeros(1)
    before = triton.runtime.jit.JITFunction.run
    with installed():
        increment_kernel[(1,)](x)
        increment_kernel[1,](x)
    assert x.item() == 2
    assert triton.runtime.jit.JITFunction.run is before


def test_the_driver_describes_what_kernels_are_compiled_for() -> None:
    with installed():
        driver = triton.runtime.driver.active
        assert driver.get_active_torch_device() == torch.device("cpu")
        assert driver.get_current_target().arch == triton_internals.DEFAULT_ARCH
        assert driver.utils.get_device_properties(driver.get_current_device())["warpSize"] == 64


def test_a_script_that_knows_nothing_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "incref_kernels.triton.native", str(script), "100"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == f"{list(range(0, 200, 2))}\n", run.stderr


TESTS = """
import torch, triton, triton.language as tl

@triton.jit
def increment_kernel(x):
    tl.store(x, tl.load(x) + 1)

def test_kernel():
    x = torch.zeros(1)
    increment_kernel[(1,)](x)
    assert x.item() == 1

def test_fixture(triton_native):
    x = torch.zeros(1)
    triton_native(increment_kernel)[1](x)
    assert x.item() == 1
"""


def test_the_option_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_kernels.py").write_text(TESTS)
    plugin = "incref_kernels.triton.native.pytest_plugin"
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "--rootdir", str(tmp_path), str(tmp_path)]
    with_option = subprocess.run([*command, "--triton-native"], capture_output=True, text=True, check=False)
    assert "2 passed" in with_option.stdout, with_option.stdout
    without = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in without.stdout, without.stdout
