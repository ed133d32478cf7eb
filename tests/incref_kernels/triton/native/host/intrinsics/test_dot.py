"""Products of short vectors, against the exact sum."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref.errors import UnsupportedError

Run = Callable[..., Tensor]

WORDS = [0x80808080, 0x7F7F7F7F, 0xFFFFFFFF, 0, 0x01020304, 0x8001FF7F, 0x12345678, 0x807F807F]
STARTS = [0, 1, -5, 2**31 - 1, -(2**31), 1000]


def bytes_of(word: int, *, is_signed: bool) -> list[int]:
    parts = [word >> 8 * place & 0xFF for place in range(4)]
    return [part - 256 if is_signed and part > 127 else part for part in parts]


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("name", ["llvm.amdgcn.sdot4", "llvm.amdgcn.udot4"])
@pytest.mark.parametrize("start", STARTS)
def test_bytes(run_lanes: Run, name: str, start: int, *, clamp: bool) -> None:
    is_signed = name == "llvm.amdgcn.sdot4"
    least, greatest = (-(1 << 31), (1 << 31) - 1) if is_signed else (0, (1 << 32) - 1)
    x = torch.tensor(WORDS * 8).to(torch.int32)
    for right in (0x80808080, 0xFF0203F0):
        body = f"%y = call i32 @{name}(i32 %x, i32 {right}, i32 {start}, i1 {str(clamp).lower()})"
        got = run_lanes(body, x).tolist()[: len(WORDS)]
        for word, found in zip(WORDS, got, strict=True):
            pairs = zip(bytes_of(word, is_signed=is_signed), bytes_of(right, is_signed=is_signed), strict=True)
            total = (start if is_signed else start % (1 << 32)) + sum(a * b for a, b in pairs)
            want = min(max(total, least), greatest) if clamp else total
            assert (found - want) % (1 << 32) == 0, hex(word)


def test_halves_are_added_one_after_the_other(run_lanes: Run) -> None:
    # 1 + 2**-24 is a tie that rounds to 1, whichever product comes; together they'd be 1 + 2**-23.
    body = """
  %pair = bitcast i32 %x to <2 x half>
  %d = call float @llvm.amdgcn.fdot2(<2 x half> %pair, <2 x half> <half 0xH0400, half 0xH0400>, float 1.0, i1 false)
  %y = bitcast float %d to i32"""
    pairs = [(2.0**-10, 2.0**-10), (2.0**-9, 0.0), (0.0, 2.0**-9), (-65504.0, 65504.0), (float("inf"), 1.0)]
    x = torch.tensor(pairs, dtype=torch.float16).view(torch.int32).flatten()
    got = run_lanes(body, torch.cat([x, x.new_zeros(64 - len(x))])).view(torch.float32).tolist()
    least = 2.0**-14
    assert got[: len(pairs)] == [1.0, 1 + 2.0**-23, 1 + 2.0**-23, (1 - 65504 * least) + 65504 * least, float("inf")]


def test_clamped_halves_are_refused(run_lanes: Run) -> None:
    body = """
  %pair = bitcast i32 %x to <2 x half>
  %d = call float @llvm.amdgcn.fdot2(<2 x half> %pair, <2 x half> %pair, float 1.0, i1 true)
  %y = bitcast float %d to i32"""
    with pytest.raises(UnsupportedError, match=r"clamps its result to \[0, 1\]"):
        run_lanes(body, range(64))
