"""Attention by `softmax_fp8`: every step as it is stated, and what has to come out of it."""

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import QuotientDtype, ScaleArithmetic
from incref.formats.gaudi import GAUDI
from incref.ops import decode, encode, fp8_bmm, quantize_float
from incref_kernels.hpu.fp8_attention import AttentionScales, fp8_attention
from incref_kernels.hpu.simulator.options import Softmax
from incref_kernels.hpu.simulator.simulate import simulate

SCALES = AttentionScales(
    query=torch.tensor(0.013), key=torch.tensor(0.02), value=torch.tensor(0.017), probabilities=torch.tensor(1 / 230)
)


class Called(TorchDispatchMode):
    """Keeps which of Gaudi's operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if func.namespace == "hpu":
            self.operators.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes_of(x: Tensor, fmt: str, scale: Tensor) -> Tensor:
    """What a cast of Gaudi gives."""
    return quantize_float(x, fmt, scale, arithmetic=ScaleArithmetic.RECIPROCAL, quotient=QuotientDtype.INPUT)[0]


def step_by_step(
    query: Tensor, key: Tensor, value: Tensor, factor: float, mask: Tensor | None, fmt: str, *, rounds: bool
) -> Tensor:
    """The steps that `fp8_attention` states, in references and plain PyTorch."""
    work = torch.bfloat16 if rounds else torch.float32
    s, formats = SCALES, {"x_fmt": fmt, "y_fmt": fmt}
    q, k, v = (codes_of(x, fmt, scale) for x, scale in ((query, s.query), (key, s.key), (value, s.value)))
    scores = fp8_bmm(q, k.mT, s.query, s.key, dtype=torch.bfloat16, **formats)
    scaled = (scores.float() * torch.tensor(factor)).to(work)
    added = scaled if mask is None else scaled + mask.to(work)
    probabilities = torch.softmax(added.float(), -1).to(work)
    p = encode((probabilities.float() * (1 / s.probabilities)).to(work), fmt)
    return fp8_bmm(p, v, s.probabilities, s.value, dtype=query.dtype, **formats)


@pytest.mark.parametrize("softmax", Softmax)
@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chip", GAUDI)
def test_every_step_is_as_it_is_stated(chip: str, dtype: torch.dtype, mode: str, softmax: Softmax) -> None:
    query, key, value = (
        draw(2, 3, *shape, seed=seed).to(dtype) for seed, shape in enumerate(((5, 16), (9, 16), (9, 8)))
    )
    causal = torch.zeros(5, 9, dtype=dtype).masked_fill(
        torch.ones(5, 9).triu(5).bool(), torch.finfo(torch.bfloat16).min
    )
    fmt = GAUDI[chip].e4m3.name
    for factor, mask in ((None, None), (0.3, causal), (0.1, draw(2, 1, 1, 9, seed=5).to(dtype))):
        with simulate(chip, mode=mode, softmax=softmax), Called() as called:
            found = fp8_attention(query, key, value, SCALES, factor=factor, mask=mask)
        rounds = softmax is Softmax.BFLOAT16
        want = step_by_step(query, key, value, 0.25 if factor is None else factor, mask, fmt, rounds=rounds)
        assert_same_bits(found, want)
        assert called.operators == [*["cast_to_fp8_v2"] * 3, "fp8_gemm_v2", "softmax_fp8", "fp8_gemm_v2"]


@pytest.mark.parametrize("chip", GAUDI)
def test_a_query_that_sees_one_key_gets_its_value(chip: str) -> None:
    fmt = GAUDI[chip].e4m3.name
    value = decode(encode(draw(6, 8), fmt), fmt)
    order = torch.tensor([3, 0, 5])
    mask = torch.full((3, 6), -torch.inf).scatter(1, order[:, None], 0.0)
    scales = AttentionScales(**dict.fromkeys(("query", "key", "value", "probabilities"), torch.ones(())))
    with simulate(chip):
        found = fp8_attention(draw(3, 4, seed=1), draw(6, 4, seed=2), value, scales, mask=mask)
    assert torch.equal(found, value[order])


def test_what_is_wrong_is_refused() -> None:
    x = torch.ones(2, 4)
    with pytest.raises(UnsupportedError, match="habana_frameworks is not installed"):
        fp8_attention(x, x, x, SCALES)
    with simulate("gaudi2"):
        with pytest.raises(TypeError, match="query, key, value must be all"):
            fp8_attention(x, x.bfloat16(), x, SCALES)
        wrong = AttentionScales(query=x, key=SCALES.key, value=SCALES.value, probabilities=SCALES.probabilities)
        with pytest.raises(ValueError, match=r"the scale query must have the shape \(\), got \(2, 4\)"):
            fp8_attention(x, x, x, wrong)
