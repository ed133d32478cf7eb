"""Sizes: more elements than 32 bits count, and working memory that does not grow with the tensor."""

import subprocess
import sys

import pytest
import torch

from incref.ops import encode

# The peak of a process only rises, so each operation is held to the bound that its own result sets.
MEASURE = """
import resource
import torch
from incref.formats import ScaleArithmetic
from incref.numerics.granularity import per_block, per_group
from incref.ops import quantize_affine, quantize_float, quantize_mx, encode

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(x):
    yield encode(x, "e4m3fn").nbytes
    yield sum(part.nbytes for part in quantize_mx(x, "mxfp4"))
    yield sum(part.nbytes for part in quantize_mx(x, "mxfp8_e5m2", axis=0))
    yield sum(part.nbytes for part in quantize_mx(x, "nvfp4"))
    yield sum(part.nbytes for part in quantize_affine(x, "int4", granularity=per_group(128), symmetric=False))
    yield sum(part.nbytes for part in quantize_float(x, "e4m3fn", granularity=per_block((128, 128))))

for _ in run(torch.full((256, 512), 0.3, dtype={dtype})):
    pass
x = torch.full({shape}, 0.3, dtype={dtype})
before = peak()
for result in run(x):
    print(result, peak() - before)
"""


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8192, 8192), "torch.float32"), ((256, 1 << 18), "torch.float32")], ids=["square", "wide"]
)
def test_working_memory_is_bounded(shape: tuple[int, int], dtype: str) -> None:
    pytest.importorskip("resource")
    code = MEASURE.format(shape=shape, dtype=dtype)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        result, rise = map(int, line.split())
        assert rise <= result + (64 << 20)


def test_more_elements_than_32_bits_count() -> None:
    row = torch.randn(1 << 10, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    x = row.expand((1 << 21) + 1, 1 << 10)
    codes = encode(x, "e4m3fn")
    want = encode(row, "e4m3fn")
    assert codes.numel() > 1 << 31
    for place in (0, 1 << 20, (1 << 21) - 1, 1 << 21):
        assert torch.equal(codes[place], want)
