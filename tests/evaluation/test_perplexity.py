import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import perplexity, window_nll


class Lookup(nn.Module):
    """A model whose logits depend on the last token alone, and that notes the shapes of its inputs."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_ids: Tensor, *, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        self.shapes.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.table[input_ids])


def plain_nll(rows: Tensor, targets: Tensor) -> float:
    """The formula, with exact sums of binary64 terms."""
    terms = []
    for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
        top = max(row)
        terms.append(top + math.log(math.fsum(math.exp(value - top) for value in row)) - row[target])
    return math.fsum(terms) / len(terms)


def bound(rows: Tensor) -> float:
    """How far either side can be from the exact value."""
    # u = 2**-53. A term is log(sum(exp)) - x: the sum of V exponentials has a relative error of at most (V + 2) u for a
    # libm within one ulp, which is absolute after the logarithm; logarithm, maximum and target add 4 u of their size.
    # Summing L terms adds L u of their sum, and dividing by L brings that to L u of one term.
    length, vocabulary = rows.shape
    magnitude = 2 * rows.abs().max().item() + math.log(vocabulary)
    return ((vocabulary + 2) + (length + 4) * magnitude) * 2.0**-53


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_follows_the_formula_from_the_logits_on(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    table = (torch.randn(11, 11, generator=generator) * 8).to(dtype)
    tokens = torch.randint(0, 11, (3, 150), generator=generator)
    got = window_nll(Lookup(table), tokens)
    assert got.dtype is torch.float64
    for nll, window in zip(got.tolist(), tokens, strict=True):
        rows = table[window[:-1]].double()
        assert abs(nll - plain_nll(rows, window[1:])) <= 2 * bound(rows)


def test_llama_agrees_with_a_plain_loop(tiny_llama: Path) -> None:
    model = load_model(tiny_llama)
    tokens = torch.arange(66).view(2, 33) * 7 % 256
    for nll, window in zip(window_nll(model, tokens).tolist(), tokens, strict=True):
        with torch.no_grad():
            rows = model(input_ids=window[None]).logits[0, :-1].double()
        assert abs(nll - plain_nll(rows, window[1:])) <= 2 * bound(rows)


def test_perplexity_of_equal_logits_is_the_number_of_words() -> None:
    # 16 equal logits: each term is log(16), and exp brings back 16 up to the rounding of either function.
    got = perplexity(Lookup(torch.zeros(16, 16)), torch.zeros(2, 5, dtype=torch.int64))
    assert abs(got - 16) <= 16 * 4 * 2.0**-52


def test_perplexity_is_of_all_predicted_tokens() -> None:
    # Token 0 predicts itself with probability 3/4 (of two words), token 1 with 1/2.
    table = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)
    tokens = torch.tensor([[0, 0, 0], [1, 1, 1]])
    want = ((4 / 3) ** 2 * 2**2) ** 0.25
    assert abs(perplexity(Lookup(table), tokens) - want) <= want * 16 * 2.0**-53


def test_last_token_is_predicted_and_predicts_nothing() -> None:
    table = torch.zeros(4, 4)
    table[3] = torch.tensor([9.0, -9.0, 5.0, 1.0])
    with_three = window_nll(Lookup(table), torch.tensor([[0, 1, 3]]))
    assert torch.equal(with_three, window_nll(Lookup(torch.zeros(4, 4)), torch.tensor([[0, 1, 3]])))


def test_model_sees_one_window_at_a_time() -> None:
    model = Lookup(torch.zeros(4, 4))
    seen = []
    window_nll(model, torch.zeros(3, 7, dtype=torch.int64), on_window=lambda: seen.append(len(model.shapes)))
    assert model.shapes == [(1, 7)] * 3
    assert seen == [1, 2, 3]


def test_nan_logits_give_nan() -> None:
    assert math.isnan(perplexity(Lookup(torch.full((4, 4), torch.nan)), torch.zeros(1, 4, dtype=torch.int64)))


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 1), (1, 2, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"tokens must be \[n, window\]"):
        window_nll(Lookup(torch.zeros(4, 4)), torch.zeros(shape, dtype=torch.int64))
