import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from incref.nn.attention import Attention

GENERATOR = torch.Generator().manual_seed(0)
Q = torch.randn(2, 4, 5, 8, generator=GENERATOR, dtype=torch.float64)
K = torch.randn(2, 2, 7, 8, generator=GENERATOR, dtype=torch.float64)
V = torch.randn(2, 2, 7, 6, generator=GENERATOR, dtype=torch.float64)
BOOL = torch.rand(2, 1, 5, 7, generator=GENERATOR) < 0.7
BOOL[..., 0] = True


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 0.3}, {"mask": BOOL}, {"mask": torch.randn(5, 7, generator=GENERATOR, dtype=torch.float64)}],
    ids=["plain", "scale", "bool", "added"],
)
def test_is_scaled_dot_product_attention(options: dict[str, object]) -> None:
    got, probabilities = Attention()(Q, K, V, **options)
    want = F.scaled_dot_product_attention(
        Q, K, V, attn_mask=options.get("mask"), scale=options.get("scale"), enable_gqa=True
    )
    # The softmax is that of float32. A score and its difference to the largest one are rounded, and the exponential
    # makes relative errors of that: 1.5 eps of the largest score, in the numerator and in the sum. An ulp for each
    # exponential, for each term of the sum and for the quotient comes on top.
    scores = Q @ K.repeat_interleave(2, 1).mT * float(options.get("scale", Q.shape[-1] ** -0.5))  # type: ignore[arg-type]  # a number
    mask = options.get("mask")
    largest = float((scores + mask if mask is not BOOL and isinstance(mask, Tensor) else scores).abs().max())
    steps = 3 * largest + K.shape[-2] + 5
    bound = steps * torch.finfo(torch.float32).eps * float(V.abs().max())
    torch.testing.assert_close(got, want, rtol=0, atol=bound)
    assert probabilities.shape == (2, 4, 5, 7)


def test_causal() -> None:
    _, probabilities = Attention()(Q, K, V, is_causal=True)
    # Two keys came before the first query.
    assert torch.equal(probabilities != 0, torch.ones(5, 7, dtype=torch.bool).tril(2).expand(2, 4, 5, 7))


def test_softcap_bounds_scores() -> None:
    _, probabilities = Attention()(Q * 1000, K, V, softcap=0.5)
    spread = probabilities.log().amax(-1) - probabilities.log().amin(-1)
    assert float(spread.max()) <= 2 * 0.5 + 1e-6


def test_a_query_that_sees_nothing_sees_all_alike() -> None:
    _, probabilities = Attention()(Q, K, V, torch.zeros(5, 7, dtype=torch.bool))
    assert torch.equal(probabilities, torch.full_like(probabilities, torch.tensor(1 / 7, dtype=torch.float32).item()))


def test_dropout() -> None:
    torch.manual_seed(0)
    attention = Attention()
    dropped, _ = attention(Q, K, V, dropout=0.5)
    assert not torch.equal(dropped, attention(Q, K, V)[0])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="3 key heads must divide the number of heads, 4"):
        Attention()(Q, K.repeat(1, 2, 1, 1)[:, :3], V)
    with pytest.raises(ValueError, match="not both"):
        Attention()(Q, K, V, BOOL, is_causal=True)
