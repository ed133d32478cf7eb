"""Operation by operation: how many results of Triton on the CPU differ from what they should be.

python -m benchmarks.triton_native.table

Native results come from this process, the interpreter's from a second one. What is expected comes from PyTorch, from
ml_dtypes, or from exact arithmetic; sums and dots are of small integers, so that every order of summation gives the
same.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import ml_dtypes
import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from benchmarks.triton_native import table_kernels as kernels

__all__ = ["main"]

_N = 1 << 16
_BLOCK = 1 << 13
_Launch = Callable[..., None]


def _patterns(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(1 << 31), 1 << 31, (_N,), generator=generator).int().view(torch.float32)


def _small(seed: int, *shape: int) -> Tensor:
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).float()


def _differ(got: Tensor, want: Tensor) -> int:
    both_nan = got.isnan() & want.isnan() if got.is_floating_point() else torch.zeros(got.shape, dtype=torch.bool)
    same = got.contiguous().view(torch.uint8).view(got.numel(), -1) == want.contiguous().view(torch.uint8).view(
        got.numel(), -1
    )
    return int((~(same.all(1) | both_nan.flatten())).sum())


def _cast(launch: _Launch, source: Tensor, target: torch.dtype) -> int:
    got = torch.zeros(source.numel(), dtype=target)
    block = min(_BLOCK, source.numel())
    launch(kernels.cast_kernel, source.numel() // block, source, got, N=block, CODES=None)
    return _differ(got, source.to(target))


def _to_fp8(launch: _Launch, name: str) -> int:
    codes, kind, limit = {
        "e4m3": (tl.float8e4nv, ml_dtypes.float8_e4m3fn, 448.0),
        "e5m2": (tl.float8e5, ml_dtypes.float8_e5m2, 57344.0),
    }[name]
    x = _patterns(1)
    # Inside of the range: what lies beyond has more than one meaning.
    x = torch.where(x.abs() <= limit, x, torch.zeros(()))
    got = torch.zeros(_N, dtype=torch.uint8)
    launch(kernels.cast_kernel, _N // _BLOCK, x, got, N=_BLOCK, CODES=codes)
    return _differ(got, torch.from_numpy(x.numpy().astype(kind).view(np.uint8)))


def _binary(launch: _Launch, dtype: torch.dtype, operation: str, want: Callable[[Tensor, Tensor], Tensor]) -> int:
    x, y = (torch.randn(_N, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (2, 3))
    x[::97] = float("nan")
    got = torch.zeros(_N, dtype=dtype)
    launch(kernels.binary_kernel, _N // _BLOCK, x, y, got, N=_BLOCK, OP=operation)
    return _differ(got, want(x, y))


def _fused(x: Tensor, y: Tensor) -> Tensor:
    # 24 bits times 24 bits plus 24 bits fits a long double where the exponents are close, as they are here.
    a, b = x.numpy().astype(np.longdouble), y.numpy().astype(np.longdouble)
    return torch.from_numpy((a * b + a).astype(np.float32))


def _rows(launch: _Launch, kernel: object, want: Callable[[Tensor], Tensor], dtype: torch.dtype) -> int:
    x = _small(4, 64, 1024).to(dtype)
    got = torch.zeros(64, dtype=dtype)
    launch(kernel, 64, x, got, N=1024)
    return _differ(got, want(x.float()).to(dtype))


def _random(launch: _Launch) -> int:
    got = torch.zeros(256, dtype=torch.int32)
    launch(kernels.randint_kernel, 1, got, 1234, N=256)
    return _differ(got, torch.tensor([_philox(at) for at in range(256)]).int())


def _philox(counter: int, seed: int = 1234) -> int:
    c, k = [counter, 0, 0, 0], [seed, 0]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c[0] - (c[0] >> 31 << 32)


def _dot(launch: _Launch, dtype: torch.dtype) -> int:
    a, b = _small(5, 64, 64), _small(6, 64, 64)
    whole = dtype == torch.int8
    got = torch.zeros(64, 64, dtype=torch.int32 if whole else torch.float32)
    launch(kernels.dot_kernel, 1, a.to(dtype), b.to(dtype), got, S=64, OUT=tl.int32 if whole else tl.float32)
    return _differ(got, (a @ b).to(got.dtype))


def _dot_scaled(launch: _Launch, name: str) -> int:
    generator = torch.Generator().manual_seed(7)
    scales = [torch.randint(125, 130, (128, 4), generator=generator).to(torch.uint8) for _ in range(2)]
    if name == "e4m3":
        values = [_small(8, 128, 128), _small(9, 128, 128)]
        stored = [value.to(torch.float8_e4m3fn) for value in values]
    else:
        codes = [torch.randint(0, 16, (128, 128), generator=generator) for _ in range(2)]
        e2m1 = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 4, 6])
        values = [torch.where(code < 8, e2m1[code % 8], -e2m1[code % 8]) for code in codes]
        stored = [(code[:, ::2] | code[:, 1::2] << 4).to(torch.uint8) for code in codes]
    got = torch.zeros(128, 128)
    launch(
        kernels.dot_scaled_kernel, 1, stored[0], scales[0], stored[1], scales[1], got,
        S=128, F=name, PER_BYTE=1 if name == "e4m3" else 2,
    )  # fmt: skip
    a, b = (
        v.double() * torch.exp2(s.double() - 127).repeat_interleave(32, 1) for v, s in zip(values, scales, strict=True)
    )
    return _differ(got, (a @ b.T).float())


_ROWS: dict[str, Callable[[_Launch], int]] = {
    "float32 to bfloat16": lambda go: _cast(go, _patterns(0), torch.bfloat16),
    "float32 to float16": lambda go: _cast(go, _patterns(0), torch.float16),
    "bfloat16 to float32": lambda go: _cast(go, torch.arange(_N).to(torch.int16).view(torch.bfloat16), torch.float32),
    "float16 to bfloat16": lambda go: _cast(go, torch.arange(_N).to(torch.int16).view(torch.float16), torch.bfloat16),
    "float32 to E4M3, in range": lambda go: _to_fp8(go, "e4m3"),
    "float32 to E5M2, in range": lambda go: _to_fp8(go, "e5m2"),
    "E4M3 to float32": lambda go: _cast(go, torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn), torch.float32),
    "E5M2 to float32": lambda go: _cast(go, torch.arange(256).to(torch.uint8).view(torch.float8_e5m2), torch.float32),
    "bfloat16 a + b": lambda go: _binary(go, torch.bfloat16, "add", torch.add),
    "bfloat16 a * b": lambda go: _binary(go, torch.bfloat16, "mul", torch.mul),
    "bfloat16 where(a > b, a, b)": lambda go: _binary(
        go, torch.bfloat16, "where", lambda x, y: torch.where(x > y, x, y)
    ),
    "float32 fma": lambda go: _binary(go, torch.float32, "fma", _fused),
    "float32 div_rn": lambda go: _binary(go, torch.float32, "div_rn", torch.div),
    "float32 maximum, NaN propagated": lambda go: _binary(go, torch.float32, "maximum", torch.maximum),
    "float32 sum of small integers": lambda go: _rows(go, kernels.sum_kernel, lambda x: x.sum(1), torch.float32),
    "bfloat16 sum of small integers": lambda go: _rows(go, kernels.sum_kernel, lambda x: x.sum(1), torch.bfloat16),
    "bfloat16 max": lambda go: _rows(go, kernels.max_kernel, lambda x: x.amax(1), torch.bfloat16),
    "randint (Philox)": _random,
    **{
        f"dot of {str(dtype).removeprefix('torch.')}": lambda go, dtype=dtype: _dot(go, dtype)
        for dtype in (torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2)
    },
    "dot_scaled of MXFP8 E4M3": lambda go: _dot_scaled(go, "e4m3"),
    "dot_scaled of MXFP4": lambda go: _dot_scaled(go, "e2m1"),
}


def _results(launch: _Launch) -> dict[str, str]:
    found = {}
    for name, row in _ROWS.items():
        try:
            found[name] = str(row(launch))
        except Exception as error:  # noqa: BLE001 (what fails is a result of the table)
            found[name] = type(error).__name__
    return found


def _interpreted(kernel: object, grid: int, *args: object, **constants: object) -> None:
    kernel[(grid,)](*args, **constants)  # type: ignore[index]


def _native(kernel: object, grid: int, *args: object, **constants: object) -> None:
    from incref_kernels.triton.native.native import native  # noqa: PLC0415 (not where Triton interprets)

    native(kernel)[grid](*args, **constants)


def main() -> None:
    """Print the table."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        print(json.dumps(_results(_interpreted)))
        return
    command = [sys.executable, "-m", "benchmarks.triton_native.table"]
    child = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=True
    )
    interpreted = json.loads(child.stdout.splitlines()[-1])
    print("| operation | native | interpreter |\n| --- | --- | --- |")
    for name, count in _results(_native).items():
        print(f"| {name} | {count} | {interpreted[name]} |")


if __name__ == "__main__":
    main()
