"""What other libraries' conversions and products implement, identified from outside.

python -m conformance.identify_peers
TRITON_INTERPRET=1 python -m conformance.identify_peers triton
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version

import ml_dtypes
import numpy as np
import torch
from torch import Tensor
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.mx_tensor import to_mx

from conformance.record import Json, environment, store
from incref.conformance.identification import Identification
from incref.conformance.identify import identify
from incref.conformance.implementation import Candidate
from incref.errors import UnsupportedError
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.ops import int8_matmul

__all__ = ["main"]

_KIND = "identify"
_CASTS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
_SMALL = ("float8_e4m3", "float8_e3m4", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")


def _torch_cast(x: Tensor, fmt: str) -> Tensor:
    return x.to(getattr(torch, fmt)).view(torch.uint8)


def _ml_dtypes_cast(x: Tensor, fmt: str) -> Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(x.numpy().astype(getattr(ml_dtypes, fmt)).view(np.uint8))


def _torchao_mx(x: Tensor, _: str, *, mode: ScaleCalculationMode) -> tuple[Tensor, Tensor]:
    scale, codes = to_mx(x.contiguous(), torch.float8_e4m3fn, 32, mode)
    return codes.view(torch.uint8), scale.view(torch.uint8)


def _conversions() -> Iterator[tuple[str, Candidate, str]]:
    """Name, black box and format."""
    for fmt in _CASTS:
        yield f"torch {version('torch')} Tensor.to", Candidate(op="encode", fn=_torch_cast), fmt
    for fmt in (*_CASTS, *_SMALL):
        yield f"ml_dtypes {version('ml_dtypes')} astype", Candidate(op="encode", fn=_ml_dtypes_cast), fmt
    for mode in ScaleCalculationMode:
        box = Candidate(op="quantize_mx", fn=partial(_torchao_mx, mode=mode))
        yield f"torchao {version('torchao')} to_mx {mode.name}", box, "mxfp8_e4m3"


def _interpreted() -> Iterator[tuple[str, Candidate, str]]:
    from conformance.interpreted_cast import cast  # noqa: PLC0415  # Triton decides at its import whether it interprets

    for fmt in ("float8_e4m3fn", "float8_e5m2"):
        yield f"triton {version('triton')} interpreter, tensor.to", Candidate(op="encode", fn=cast), fmt


def _found(found: Identification) -> dict[str, Json]:
    return {
        "op": found.op,
        "format": found.fmt,
        "options": dict(found.options),
        "undecided": {option: list(values) for option, values in found.undecided.items()},
        "compared": found.total,
        "unexplained": found.mismatches,
        "presets": list(found.preset),
        "differences": [
            f"not {one.option}={one.other}: {one.given} gives {one.got}, not {one.would_be}"
            for one in found.differences
        ],
        "first": found.first_unexplained,
        "environment": environment(),
    }


def _scaled_mm(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    *,
    x_fmt: str,
    w_fmt: str,
    dtype: torch.dtype,
    **_: object,
) -> Tensor:
    scales = (torch.tensor(1.0) if scale is None else scale for scale in (x_scale, w_scale))
    a, b = (codes.view(getattr(torch, fmt)) for codes, fmt in ((x, x_fmt), (w, w_fmt)))
    return torch._scaled_mm(a, b.T, *scales, out_dtype=dtype)  # noqa: SLF001  # its name


def _int_mm(x: Tensor, w: Tensor, *scales: Tensor, **_: object) -> Tensor:
    """It takes at least 17 rows, and columns in eights."""
    if scales:
        raise UnsupportedError("it has no scales")
    rows, columns = max(32, len(x)), -(-len(w) // 8) * 8
    left, right = (torch.nn.functional.pad(one, (0, 0, 0, size - len(one))) for one, size in ((x, rows), (w, columns)))
    found: Tensor = torch._int_mm(left, right.T)  # noqa: SLF001  # its name
    return found[: len(x), : len(w)]


def _call_qlinear(x: Tensor, w: Tensor, x_scale: float, x_zero: int, w_scale: Tensor) -> Tensor:
    packed = torch.ops.onednn.qlinear_prepack(w, list(x.shape))
    zeros = torch.zeros(len(w), dtype=torch.int64)
    options = (None, 1.0, 0, torch.float32, "none", [], "")
    found: Tensor = torch.ops.onednn.qlinear_pointwise(x, x_scale, x_zero, packed, w_scale, zeros, *options)
    return found


def _qlinear() -> dict[str, Json]:
    """Which order of the scales explains oneDNN's int8 linear layer, with a scale for x and one for every channel.

    Weights have 7 bits, with which no sum of two products leaves 16 bits; that it does with 8 is asked apart.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (64, 512), generator=generator, dtype=torch.uint8)
    w = torch.randint(-64, 64, (48, 512), generator=generator, dtype=torch.int8)
    x_scale, x_zero = torch.tensor(0.0371), torch.tensor(113, dtype=torch.int32)
    w_scale = torch.rand(48, generator=generator) * 0.09 + 0.01
    got = _call_qlinear(x, w, float(x_scale), int(x_zero), w_scale)
    differ: dict[str, Json] = {}
    first: dict[str, Json] = {}
    for order in ScaleOrder:
        want = int8_matmul(
            x,
            w,
            x_scale,
            w_scale.unsqueeze(1),
            x_zero_point=x_zero,
            x_granularity=PER_TENSOR,
            w_granularity=PER_TOKEN,
            order=order,
        )
        wrong = (got != want).nonzero()
        differ[order.value] = len(wrong)
        if len(wrong):
            m, n = wrong[0].tolist()
            acc = int(((x[m].long() - x_zero) * w[n].long()).sum())
            scales = f"{float(x_scale).hex()} and {float(w_scale[n]).hex()}"
            first[order.value] = f"sum {acc}, scales {scales}: {float(got[m, n]).hex()}, not {float(want[m, n]).hex()}"
    pair = _call_qlinear(
        torch.full((1, 2), 255, dtype=torch.uint8), torch.full((1, 2), 127, dtype=torch.int8), 1.0, 0, torch.ones(1)
    )
    exact = 2 * 255 * 127
    return {
        "op": "int8_matmul",
        "compared": got.numel(),
        "unexplained by order": differ,
        "ruled out by": first,
        "first": "" if int(pair) == exact else f"255 * 127 + 255 * 127 gives {int(pair)}, the exact sum is {exact}",
        "environment": environment(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Identify all, and keep what was found."""
    names = sys.argv[1:] if arguments is None else list(arguments)
    for name, box, fmt in _interpreted() if "triton" in names else _conversions():
        store(_KIND, f"{name} {fmt}", _found(identify(box, fmt)))
    if "triton" not in names:
        torch_version = version("torch")
        products = (
            ("_int_mm", "int8_matmul", _int_mm, "int8"),
            ("_scaled_mm", "fp8_matmul", _scaled_mm, "float8_e5m2"),
        )
        for name, op, box, fmt in products:
            store(_KIND, f"torch {torch_version} {name} {fmt}", _found(identify(Candidate(op=op, fn=box), fmt)))
        # Kernels of other instructions add and scale in other ways.
        capability = torch.backends.cpu.get_cpu_capability()
        store(_KIND, f"torch {torch_version} onednn.qlinear_pointwise {capability}", _qlinear())
    return 0


if __name__ == "__main__":
    sys.exit(main())
