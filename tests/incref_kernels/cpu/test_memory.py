import json
import subprocess
import sys
from pathlib import Path

import pytest

from incref_kernels.cpu import BACKEND

pytestmark = [
    pytest.mark.skipif(BACKEND.why_unavailable() is not None, reason="no llvmlite"),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak"),
]

MIB = 1 << 20

# In a process of its own, whose memory nothing else uses. Pieces of the tensor come first, so that all is compiled.
PROGRAM = """
import json
from pathlib import Path
import torch
from incref import ops
from incref.numerics.granularity import PER_TOKEN, per_channel, per_group
from incref_kernels.cpu import BACKEND

def peak():
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

calls = {
    "cast": (ops.cast, "e4m3fn", {}),
    "encode": (ops.encode, "e4m3fn", {}),
    "blocks": (ops.fake_quantize_mx, "mxfp4", {}),
    "codes of blocks": (ops.quantize_mx, "nvfp4", {}),
    "groups": (ops.fake_quantize_affine, "uint4", {"granularity": per_group(128), "symmetric": False}),
    "tokens": (ops.fake_quantize_float, "e4m3fn", {"granularity": PER_TOKEN}),
    "columns": (ops.fake_quantize_affine, "int8", {"granularity": per_channel(1)}),
}
x = torch.randn(6144, 4096)
found = {}
for name, (op, fmt, options) in calls.items():
    run = op.on(BACKEND)
    for way, given in (("", x), (", transposed", x.mT)):
        run(given[:256, :256], fmt, **options), run(given[:256, :256].contiguous(), fmt, **options)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        result = run(given, fmt, **options)
        results = result if isinstance(result, tuple) else (result,)
        found[name + way] = peak() - before - sum(one.nbytes for one in results)
        del result, results
print(json.dumps(found))
"""


def test_a_conversion_takes_its_result_and_little_more() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    taken = json.loads(ran.stdout)
    assert len(taken) == 14
    # A copy of the tensor would be 96 MiB.
    assert {name: size for name, size in taken.items() if size > 64 * MIB} == {}
