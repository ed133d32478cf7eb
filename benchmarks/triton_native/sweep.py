"""All 2**32 float32 patterns through a Triton kernel on the CPU, compared with the oracle.

python -m benchmarks.triton_native.sweep
"""

import time

import torch

from benchmarks.triton_native.kernels import encode_e4m3_kernel
from conformance.expect import expected_codes
from incref.formats import FORMATS, FloatFormat, get_format
from incref.oracle.segments import encode_segments
from incref_kernels.triton.native.native import native

__all__ = ["main"]

_CHUNK = 1 << 26
_BLOCK = 4096


def main() -> None:
    """Print how many patterns differ, and how long the kernel and all of it took."""
    source, target = FORMATS["float32"], get_format("e4m3fn")
    assert isinstance(source, FloatFormat)
    assert isinstance(target, FloatFormat)
    segments = [run for side in (False, True) for run in encode_segments(source, target, is_negative=side)]
    kernel = native(encode_e4m3_kernel)
    codes = torch.empty(_CHUNK, dtype=torch.uint8)
    wrong, inside, start = 0, 0.0, time.perf_counter()
    for first in range(0, 1 << 32, _CHUNK):
        begin = time.perf_counter()
        kernel[_CHUNK // _BLOCK](None, codes, first, N=_BLOCK)
        inside += time.perf_counter() - begin
        wrong += int((codes != expected_codes(segments, first, _CHUNK, torch.uint8)).sum())
    whole = time.perf_counter() - start
    print(
        f"{1 << 32} patterns, {wrong} differ from the oracle; kernel {inside:.1f} s, with the comparison {whole:.1f} s"
    )


if __name__ == "__main__":
    main()
