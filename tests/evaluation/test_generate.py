from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from incref.evaluation.generate import generate_greedily
from incref.evaluation.huggingface import load_model


class Successor(nn.Module):
    """Predicts the next number, and counts what it was given as past."""

    def forward(self, input_ids: Tensor, *, past_key_values: int | None, use_cache: bool) -> SimpleNamespace:
        assert use_cache
        logits = torch.nn.functional.one_hot(input_ids + 1, 10).float()
        return SimpleNamespace(logits=logits, past_key_values=(past_key_values or 0) + input_ids.shape[1])


class Level(nn.Module):
    """Finds tokens 2 and 5 equally likely."""

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        logits = torch.zeros(1, input_ids.shape[1], 8)
        logits[..., [2, 5]] = 1.0
        return SimpleNamespace(logits=logits, past_key_values=None)


def test_goes_on_up_to_the_limit() -> None:
    told: list[int] = []
    assert generate_greedily(Successor(), [1, 2], max_new_tokens=3, on_token=told.append) == [3, 4, 5]
    assert told == [3, 4, 5]


def test_a_stop_token_ends_the_text_and_is_left_out() -> None:
    assert generate_greedily(Successor(), [1], max_new_tokens=9, stop_ids={4, 7}) == [2, 3]


def test_lowest_of_equally_likely_tokens_wins() -> None:
    assert generate_greedily(Level(), [0], max_new_tokens=2) == [2, 2]


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        generate_greedily(Successor(), [], max_new_tokens=1)


def test_past_keys_give_what_the_whole_text_gives(tiny_llama: Path) -> None:
    model = load_model(tiny_llama)
    ids = [3, 14, 15]
    added = generate_greedily(model, ids, max_new_tokens=6)
    for token in added:
        with torch.no_grad():
            assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids = [*ids, token]
