import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Run = Callable[..., Tensor]

VALUES = [0.0, -0.0, 1.0, 2.0, 4.0, 0.25, math.inf, -math.inf, math.nan, 1e-45, 3.0, 0.7, -1.5, 150.0, -151.0, 3.4e38]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("llvm.amdgcn.exp2", lambda x: torch.exp2(x.double())),
        ("llvm.amdgcn.log", lambda x: torch.log2(x.double())),
        ("llvm.amdgcn.rcp", lambda x: 1 / x.double()),
        ("llvm.amdgcn.rsq", lambda x: x.double().rsqrt()),
        ("llvm.amdgcn.sqrt", lambda x: x.double().sqrt()),
    ],
)
def test_the_function_is_rounded_to_float32(run_lanes: Run, name: str, function: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor(VALUES * 4, dtype=torch.float32)
    body = f"""
  %a = bitcast i32 %x to float
  %f = call float @{name}.f32(float %a)
  %y = bitcast float %f to i32"""
    got = run_lanes(body, x.view(torch.int32)).view(torch.float32)
    want = function(x).float()
    # The C library's exp2f and log2f may be one unit in the last place off.
    exact = name not in {"llvm.amdgcn.exp2", "llvm.amdgcn.log"}
    assert torch.equal(got.isnan(), want.isnan())
    kept = ~want.isnan()
    difference = (got.view(torch.int32)[kept] - want.view(torch.int32)[kept]).abs()
    assert int(difference.max()) <= (0 if exact else 1)


def test_rsqrt_of_the_device_library(run_lanes: Run) -> None:
    x = torch.tensor(VALUES * 4, dtype=torch.float32)
    body = """
  %a = bitcast i32 %x to float
  %f = call float @__ocml_rsqrt_f32(float %a)
  %y = bitcast float %f to i32"""
    got = run_lanes(body, x.view(torch.int32)).view(torch.float32)
    assert torch.equal(got.nan_to_num(nan=7.0), x.double().rsqrt().float().nan_to_num(nan=7.0))
