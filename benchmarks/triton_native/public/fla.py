"""Kernels of flash-linear-attention."""

import importlib

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.triton_native.public.case import Case, Function, draw

__all__ = ["FLA"]


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


_WIDTH = 192
_X, _Y = draw(48, _WIDTH), draw(48, _WIDTH, seed=1)
_W, _B = draw(_WIDTH, seed=2), draw(_WIDTH, seed=3)
_QKV = [draw(2, 64, 2, 32, seed=seed) for seed in (6, 7, 8)]

FLA: dict[str, Case] = {
    "fla linear attention, chunked": Case(
        _fla("ops.linear_attn", "chunk_linear_attn", normalize=False),
        _linear_attention,
        _QKV,
    ),
    "fla retention, chunked": Case(_fla("ops.retention", "chunk_retention"), _retention, _QKV),
    "fla gated linear attention, recurrent": Case(
        _gla,
        _gated_linear_attention,
        [*_QKV, draw(2, 64, 2, 32, seed=9)],
    ),
    "fla delta rule, chunked": Case(_fla_delta_rule, _delta_rule, [*_QKV, draw(2, 64, 2, seed=9)]),
    "fla gated recurrence": Case(_hgrn, _gated_recurrence, [draw(2, 32, 64), draw(2, 32, 64, seed=1)]),
    "fla layer_norm": Case(
        _fla("modules.norm.layernorm", "layer_norm"),
        lambda x, w, b: F.layer_norm(x, (_WIDTH,), w, b, 1e-5),
        [_X, _W, _B],
    ),
    "fla l2norm": Case(
        _fla("modules.norm.l2norm", "l2norm"),
        lambda x: x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt(),
        [_X],
    ),
    "fla token_shift": Case(
        _fla("modules.token_shift", "token_shift"),
        lambda x: F.pad(x, (0, 0, 1, 0))[:, :-1] - x,
        [draw(2, 32, 64)],
    ),
    "fla logsigmoid": Case(_fla("modules.activations", "logsigmoid"), F.logsigmoid, [_X]),
    "fla swiglu": Case(_fla("modules.activations", "swiglu"), lambda a, b: F.silu(a) * b, [_X, _Y]),
}
