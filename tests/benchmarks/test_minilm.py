from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.minilm import embed, sentences_of


class Encoder(nn.Module):
    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=torch.stack([input_ids.float(), 2 * input_ids.float()], -1))


class Letters:
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert add_special_tokens
        return [ord(letter) for letter in text]


def test_an_embedding_is_the_mean_of_length_1() -> None:
    found = embed(Encoder(), Letters(), ["ab", "xyz"])  # type: ignore[arg-type]
    assert torch.allclose(found, torch.tensor([1.0, 2.0], dtype=torch.float64) / 5**0.5, atol=0, rtol=1e-15)


def test_sentences_are_paragraphs_of_prose_each_once() -> None:
    prose = "This is a paragraph of prose\nwith some words in it."
    text = "\n\n".join([prose, "short.", "lower case " * 5 + ".", prose, "No full stop " * 4, "Word " * 60 + "."])
    assert sentences_of(text, 5) == [" ".join(prose.split())]
