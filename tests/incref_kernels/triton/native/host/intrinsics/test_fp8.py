"""Decoding of 8-bit floats, every code, against PyTorch's types."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[..., Tensor]

ONE = {"llvm.amdgcn.cvt.f32.fp8": "fp8", "llvm.amdgcn.cvt.f32.bf8": "bf8"}
PAIR = {"llvm.amdgcn.cvt.pk.f32.fp8": "fp8", "llvm.amdgcn.cvt.pk.f32.bf8": "bf8"}
TYPES = {
    ("fp8", "gfx942"): torch.float8_e4m3fnuz,
    ("bf8", "gfx942"): torch.float8_e5m2fnuz,
    ("fp8", "gfx950"): torch.float8_e4m3fn,
    ("bf8", "gfx950"): torch.float8_e5m2,
}
CODES = torch.arange(256, dtype=torch.uint8)


def values(kind: str, arch: str) -> Tensor:
    return CODES.view(TYPES[kind, arch]).float()


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("name", [*ONE, *PAIR])
def test_every_code_is_decoded(run_lanes: Run, name: str, arch: str) -> None:
    """A lane's four bytes, each by the selector of its place."""
    places = range(4)
    if name in ONE:
        lines = [f"%f{place} = call float @{name}(i32 %x, i32 {place})" for place in places]
    else:
        lines = [f"%p{half} = call <2 x float> @{name}(i32 %x, i1 {str(bool(half)).lower()})" for half in range(2)]
        lines += [f"%f{place} = extractelement <2 x float> %p{place // 2}, i32 {place % 2}" for place in places]
    for place in places:
        before = f"%v{place - 1}" if place else "zeroinitializer"
        lines.append(f"%v{place} = insertelement <4 x float> {before}, float %f{place}, i32 {place}")
    body = "\n  ".join([*lines, "%y = bitcast <4 x float> %v3 to <4 x i32>"])
    got = run_lanes(body, CODES.view(torch.int32), words=4, arch=arch).view(torch.float32)
    want = values({**ONE, **PAIR}[name], arch)
    assert torch.equal(got.isnan(), want.isnan())
    kept = ~want.isnan()
    assert torch.equal(got.view(torch.int32)[kept], want.view(torch.int32)[kept])
