"""Kernels that others wrote, from packages of the index, run on the CPU and compared with what PyTorch computes.

`pip install --no-deps --target build/public liger-kernel fla-core einops`, then
`PYTHONPATH=build/public python -m benchmarks.triton_native.public`. With `TRITON_INTERPRET=1` set, Triton's interpreter
runs them.
"""

import argparse
import importlib
import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.checkpoints.files import write_atomically

__all__ = ["CASES", "measure"]

_ROWS, _WIDTH, _WORDS = 48, 192, 500
Function = Callable[..., Any]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _labels() -> Tensor:
    return torch.randint(0, _WORDS, (_ROWS,), generator=torch.Generator().manual_seed(5))


def _apply(module: str, name: str, *more: object) -> Function:
    """The autograd function of Liger-Kernel called `name`, with further arguments after the tensors."""

    def call(*tensors: Tensor) -> object:
        function = getattr(importlib.import_module(f"liger_kernel.ops.{module}"), name)
        return function.apply(*tensors, *more)

    return call


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def _sparsemax(x: Tensor) -> Tensor:
    z = x.sort(-1, descending=True).values
    cumulated = z.cumsum(-1) - 1
    k = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    count = (z * k > cumulated).sum(-1, keepdim=True)
    return (x - cumulated.gather(-1, count - 1) / count).clamp(min=0)


def _poly_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    def norm(y: Tensor) -> Tensor:
        return y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    return weight[0] * norm(x**3) + weight[1] * norm(x**2) + weight[2] * norm(x) + bias


def _jsd(x: Tensor, y: Tensor) -> Tensor:
    p, q = x.exp(), y.exp()
    m = (p + q) / 2
    return (p * (x - m.log()) + q * (y - m.log())).sum() / 2 / len(x)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-high, low], -1) * sin[:, None]


def _linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.tril(), v)


def _retention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    length, heads = q.shape[1], q.shape[2]
    decay = torch.log2(1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64)))
    distance = (torch.arange(length)[:, None] - torch.arange(length)[None]).double()
    mask = torch.where(distance >= 0, torch.exp2(decay[:, None, None] * distance), 0.0).to(q.dtype)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores * mask, v)


def _gated_linear_attention(q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    state = torch.zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3], dtype=q.dtype)
    out = []
    for t in range(q.shape[1]):
        state = state * F.logsigmoid(gate[:, t]).exp()[..., None] + k[:, t, :, :, None] * v[:, t, :, None]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, t] * q.shape[-1] ** -0.5, state))
    return torch.stack(out, 1)


def _delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    k, weight = F.normalize(k, dim=-1), torch.sigmoid(beta)
    state = torch.zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3], dtype=q.dtype)
    out = []
    for t in range(q.shape[1]):
        error = v[:, t] - torch.einsum("bhd,bhde->bhe", k[:, t], state)
        state = state + k[:, t, :, :, None] * (weight[:, t, :, None] * error)[:, :, None]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, t] * q.shape[-1] ** -0.5, state))
    return torch.stack(out, 1)


def _fla_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    from fla.ops.delta_rule import chunk_delta_rule  # noqa: PLC0415  # an optional package

    # It refuses float32.
    narrow = [x.to(torch.bfloat16) for x in (q, F.normalize(k, dim=-1), v, torch.sigmoid(beta))]
    found: Tensor = chunk_delta_rule(*narrow)[0]
    return found.to(q.dtype)


def _gated_recurrence(x: Tensor, gate: Tensor) -> Tensor:
    state, out = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        state = torch.sigmoid(gate[:, t]) * state + x[:, t]
        out.append(state)
    return torch.stack(out, 1)


def _hgrn(x: Tensor, gate: Tensor) -> Tensor:
    from fla.ops.hgrn import fused_recurrent_hgrn  # noqa: PLC0415  # an optional package

    found: Tensor = fused_recurrent_hgrn(x, F.logsigmoid(gate))[0]
    return found


def _fla(module: str, name: str, **more: object) -> Function:
    """The function of flash-linear-attention called `name`; its first result."""

    def call(*tensors: Tensor) -> object:
        found = getattr(importlib.import_module(f"fla.{module}"), name)(*tensors, **more)
        return found[0] if isinstance(found, tuple) else found

    return call


def _gla(q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    from fla.ops.gla import fused_recurrent_gla  # noqa: PLC0415  # an optional package

    found: Tensor = fused_recurrent_gla(q, k, v, F.logsigmoid(gate))[0]
    return found


_X, _Y = _draw(_ROWS, _WIDTH), _draw(_ROWS, _WIDTH, seed=1)
_W, _B = _draw(_WIDTH, seed=2), _draw(_WIDTH, seed=3)
_LOGITS = _draw(_ROWS, _WORDS)
_LOG_P, _LOG_Q = _LOGITS.log_softmax(-1), _draw(_ROWS, _WORDS, seed=4).log_softmax(-1)
_QKV = [_draw(2, 64, 2, 32, seed=seed) for seed in (6, 7, 8)]
_ANGLES = torch.outer(torch.arange(16.0), 10.0 ** -torch.linspace(0, 2, 16)).repeat(1, 2)[None]
_COS, _SIN = _ANGLES.cos(), _ANGLES.sin()
_Q, _K = _draw(1, 4, 16, 32), _draw(1, 2, 16, 32, seed=1)

CASES: dict[str, tuple[Function, Function, list[Tensor]]] = {
    "liger rms_norm": (_apply("rms_norm", "LigerRMSNormFunction", 1e-6), _rms_norm, [_X, _W]),
    "liger layer_norm": (
        _apply("layer_norm", "LigerLayerNormFunction", 1e-6),
        lambda x, w, b: F.layer_norm(x, (_WIDTH,), w, b, 1e-6),
        [_X, _W, _B],
    ),
    "liger group_norm": (
        _apply("group_norm", "LigerGroupNormFunction", 12, 4, 1e-6),
        lambda x, w, b: F.group_norm(x, 4, w, b, 1e-6),
        [_draw(4, 12, 40), _draw(12, seed=1), _draw(12, seed=2)],
    ),
    "liger softmax": (_apply("softmax", "LigerSoftmaxFunction"), lambda x: x.softmax(-1), [_X]),
    "liger sparsemax": (_apply("sparsemax", "LigerSparsemaxFunction", -1), _sparsemax, [_X]),
    "liger swiglu": (_apply("swiglu", "LigerSiLUMulFunction"), lambda a, b: F.silu(a) * b, [_X, _Y]),
    "liger geglu": (
        _apply("geglu", "LigerGELUMulFunction"),
        lambda a, b: F.gelu(a, approximate="tanh") * b,
        [_X, _Y],
    ),
    "liger dyt": (
        _apply("dyt", "LigerDyTFunction"),
        lambda x, a, g, b: torch.tanh(a * x) * g + b,
        [_X, torch.tensor([0.7]), _W, _B],
    ),
    "liger relu_squared": (
        _apply("relu_squared", "LigerReLUSquaredFunction"),
        lambda x: F.relu(x).square(),
        [_X],
    ),
    "liger poly_norm": (
        _apply("poly_norm", "LigerPolyNormFunction", 1e-6),
        _poly_norm,
        [_X, _draw(3, seed=9), _draw(seed=10)],
    ),
    "liger kl_div": (
        lambda x: _apply("kl_div", "LigerKLDivLossFunction")(x, _LOG_Q.exp().to(x.dtype)),
        lambda x: F.kl_div(x, _LOG_Q.exp().to(x.dtype), reduction="batchmean"),
        [_LOG_P],
    ),
    "liger jsd": (
        lambda x: _apply("jsd", "LigerJSDFunction")(x, _LOG_Q.to(x.dtype)),
        lambda x: _jsd(x, _LOG_Q.to(x.dtype)),
        [_LOG_P],
    ),
    "liger tvd": (
        lambda x: _apply("tvd", "LigerTVDLossFunction")(x, _LOG_Q.exp().to(x.dtype)),
        lambda x: (x - _LOG_Q.exp().to(x.dtype)).abs().sum() / 2 / _ROWS,
        [_LOG_P.exp()],
    ),
    "liger cross_entropy": (
        lambda x: _apply("cross_entropy", "LigerCrossEntropyFunction")(x.clone(), _labels(), None)[0],
        lambda x: F.cross_entropy(x, _labels()),
        [_LOGITS],
    ),
    "liger fused_add_rms_norm": (
        lambda x, y, w: _apply("fused_add_rms_norm", "LigerFusedAddRMSNormFunction", 1e-6)(x, y, w)[0],
        lambda x, y, w: _rms_norm(x + y, w),
        [_X, _Y, _W],
    ),
    "liger fused_linear_cross_entropy": (
        lambda x, w: _apply("fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction")(x, w, _labels())[0],
        lambda x, w: F.cross_entropy(x @ w.T, _labels()),
        [_draw(_ROWS, 64), _draw(_WORDS, 64, seed=1)],
    ),
    "liger rope": (
        lambda q, k: torch.cat(_apply("rope", "LigerRopeFunction")(q.clone(), k.clone(), _COS, _SIN), 1),
        lambda q, k: torch.cat([_rotate(x, _COS.to(x.dtype), _SIN.to(x.dtype)) for x in (q, k)], 1),
        [_Q, _K],
    ),
    "fla linear attention, chunked": (
        _fla("ops.linear_attn", "chunk_linear_attn", normalize=False),
        _linear_attention,
        _QKV,
    ),
    "fla retention, chunked": (_fla("ops.retention", "chunk_retention"), _retention, _QKV),
    "fla gated linear attention, recurrent": (
        _gla,
        _gated_linear_attention,
        [*_QKV, _draw(2, 64, 2, 32, seed=9)],
    ),
    "fla delta rule, chunked": (_fla_delta_rule, _delta_rule, [*_QKV, _draw(2, 64, 2, seed=9)]),
    "fla gated recurrence": (_hgrn, _gated_recurrence, [_draw(2, 32, 64), _draw(2, 32, 64, seed=1)]),
    "fla layer_norm": (
        _fla("modules.norm.layernorm", "layer_norm"),
        lambda x, w, b: F.layer_norm(x, (_WIDTH,), w, b, 1e-5),
        [_X, _W, _B],
    ),
    "fla l2norm": (
        _fla("modules.norm.l2norm", "l2norm"),
        lambda x: x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt(),
        [_X],
    ),
    "fla token_shift": (
        _fla("modules.token_shift", "token_shift"),
        lambda x: F.pad(x, (0, 0, 1, 0))[:, :-1] - x,
        [_draw(2, 32, 64)],
    ),
    "fla logsigmoid": (_fla("modules.activations", "logsigmoid"), F.logsigmoid, [_X]),
    "fla swiglu": (_fla("modules.activations", "swiglu"), lambda a, b: F.silu(a) * b, [_X, _Y]),
}
"""Kernels by name: what launches them, what they compute, and the tensors that they are given."""


def measure(name: str) -> dict[str, Any]:
    """Run one case forward and backward.

    Returns:
        The largest error of the results, against float64, as a fraction of the largest result, and that of PyTorch in
        float32; likewise for gradients; seconds of a second run.
    """
    function, reference, tensors = CASES[name]
    wanted = _run(reference, [tensor.double() for tensor in tensors])
    theirs = _run(reference, tensors)
    got = _run(function, tensors)
    start = time.perf_counter()
    _run(function, tensors)
    seconds = time.perf_counter() - start
    return {
        "error": _error(got[:1], wanted[:1]),
        "error_of_pytorch": _error(theirs[:1], wanted[:1]),
        "gradient_error": _error(got[1:], wanted[1:]),
        "gradient_error_of_pytorch": _error(theirs[1:], wanted[1:]),
        "seconds": seconds,
    }


def _run(function: Function, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Call `function`, and give its result and the gradients of a weighted sum of it."""
    given = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = function(*given)
    kept = result.detach().clone()
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result) + 0.25
    (result * weights).sum().backward()
    return [kept, *(tensor.grad for tensor in given if tensor.grad is not None)]


def _error(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    if [tensor.shape for tensor in got] != [tensor.shape for tensor in wanted]:
        return float("inf")
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(got, wanted, strict=True))


def main() -> None:
    """Run all cases, print a table, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", action="store_true", help="look for accesses out of bounds, races and new NaN")
    parser.add_argument("--case", action="append", choices=CASES, help="all of them if left out")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where results are kept, beside those of the other way"
    )
    arguments = parser.parse_args()
    way = "interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else "checked" if arguments.checks else "native"
    found: dict[str, Any] = {}
    with _way(way):
        for name in arguments.case or CASES:
            try:
                found[name] = measure(name)
            except Exception as error:  # noqa: BLE001  # whatever a kernel of others raises is its result
                found[name] = {"failure": f"{type(error).__name__}: {error}"}
                traceback.print_exc()
            print(name, found[name], flush=True)
    if arguments.json is not None:
        kept = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        write_atomically(arguments.json, (json.dumps({**kept, way: found}, indent=2) + "\n").encode())


def _way(way: str) -> AbstractContextManager[None]:
    if way == "interpreter":
        return nullcontext()
    from incref_kernels.triton.native.install import installed  # noqa: PLC0415  # an optional package
    from incref_kernels.triton.native.native import native  # noqa: PLC0415  # likewise

    if way == "native":
        return installed()
    return installed(partial(native, bounds=True, writers=True, shared=True, nans=True))


if __name__ == "__main__":
    main()
