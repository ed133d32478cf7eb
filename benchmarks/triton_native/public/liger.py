"""Kernels of Liger-Kernel."""

import importlib

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.triton_native.public.case import Case, Function, draw

__all__ = ["LIGER"]

_ROWS, _WIDTH, _WORDS = 48, 192, 500


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


_X, _Y = draw(_ROWS, _WIDTH), draw(_ROWS, _WIDTH, seed=1)
_W, _B = draw(_WIDTH, seed=2), draw(_WIDTH, seed=3)
_LOGITS = draw(_ROWS, _WORDS)
_LOG_P, _LOG_Q = _LOGITS.log_softmax(-1), draw(_ROWS, _WORDS, seed=4).log_softmax(-1)
_ANGLES = torch.outer(torch.arange(16.0), 10.0 ** -torch.linspace(0, 2, 16)).repeat(1, 2)[None]
_COS, _SIN = _ANGLES.cos(), _ANGLES.sin()
_Q, _K = draw(1, 4, 16, 32), draw(1, 2, 16, 32, seed=1)

LIGER: dict[str, Case] = {
    "liger rms_norm": Case(_apply("rms_norm", "LigerRMSNormFunction", 1e-6), _rms_norm, [_X, _W]),
    "liger layer_norm": Case(
        _apply("layer_norm", "LigerLayerNormFunction", 1e-6),
        lambda x, w, b: F.layer_norm(x, (_WIDTH,), w, b, 1e-6),
        [_X, _W, _B],
    ),
    "liger group_norm": Case(
        _apply("group_norm", "LigerGroupNormFunction", 12, 4, 1e-6),
        lambda x, w, b: F.group_norm(x, 4, w, b, 1e-6),
        [draw(4, 12, 40), draw(12, seed=1), draw(12, seed=2)],
    ),
    "liger softmax": Case(_apply("softmax", "LigerSoftmaxFunction"), lambda x: x.softmax(-1), [_X]),
    "liger sparsemax": Case(_apply("sparsemax", "LigerSparsemaxFunction", -1), _sparsemax, [_X]),
    "liger swiglu": Case(_apply("swiglu", "LigerSiLUMulFunction"), lambda a, b: F.silu(a) * b, [_X, _Y]),
    "liger geglu": Case(
        _apply("geglu", "LigerGELUMulFunction"),
        lambda a, b: F.gelu(a, approximate="tanh") * b,
        [_X, _Y],
    ),
    "liger dyt": Case(
        _apply("dyt", "LigerDyTFunction"),
        lambda x, a, g, b: torch.tanh(a * x) * g + b,
        [_X, torch.tensor([0.7]), _W, _B],
    ),
    "liger relu_squared": Case(
        _apply("relu_squared", "LigerReLUSquaredFunction"),
        lambda x: F.relu(x).square(),
        [_X],
    ),
    "liger poly_norm": Case(
        _apply("poly_norm", "LigerPolyNormFunction", 1e-6),
        _poly_norm,
        [_X, draw(3, seed=9), draw(seed=10)],
    ),
    "liger kl_div": Case(
        lambda x: _apply("kl_div", "LigerKLDivLossFunction")(x, _LOG_Q.exp().to(x.dtype)),
        lambda x: F.kl_div(x, _LOG_Q.exp().to(x.dtype), reduction="batchmean"),
        [_LOG_P],
    ),
    "liger jsd": Case(
        lambda x: _apply("jsd", "LigerJSDFunction")(x, _LOG_Q.to(x.dtype)),
        lambda x: _jsd(x, _LOG_Q.to(x.dtype)),
        [_LOG_P],
    ),
    "liger tvd": Case(
        lambda x: _apply("tvd", "LigerTVDLossFunction")(x, _LOG_Q.exp().to(x.dtype)),
        lambda x: (x - _LOG_Q.exp().to(x.dtype)).abs().sum() / 2 / _ROWS,
        [_LOG_P.exp()],
    ),
    "liger cross_entropy": Case(
        lambda x: _apply("cross_entropy", "LigerCrossEntropyFunction")(x.clone(), _labels(), None)[0],
        lambda x: F.cross_entropy(x, _labels()),
        [_LOGITS],
    ),
    "liger fused_add_rms_norm": Case(
        lambda x, y, w: _apply("fused_add_rms_norm", "LigerFusedAddRMSNormFunction", 1e-6)(x, y, w)[0],
        lambda x, y, w: _rms_norm(x + y, w),
        [_X, _Y, _W],
    ),
    "liger fused_linear_cross_entropy": Case(
        lambda x, w: _apply("fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction")(x, w, _labels())[0],
        lambda x, w: F.cross_entropy(x @ w.T, _labels()),
        [draw(_ROWS, 64), draw(_WORDS, 64, seed=1)],
    ),
    "liger rope": Case(
        lambda q, k: torch.cat(_apply("rope", "LigerRopeFunction")(q.clone(), k.clone(), _COS, _SIN), 1),
        lambda q, k: torch.cat([_rotate(x, _COS.to(x.dtype), _SIN.to(x.dtype)) for x in (q, k)], 1),
        [_Q, _K],
    ),
}
