from pathlib import Path

import pytest
import torch

from incref.errors import UnsupportedError
from incref.evaluation.text import cut_windows, encode_question, python_topics, read_text


class Letters:
    """A tokenizer whose tokens are code points."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [-1, *map(ord, text)] if add_special_tokens else list(map(ord, text))

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        raise NotImplementedError

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        assert add_generation_prompt
        return f"<{conversation[0]['role']}>{conversation[0]['content']}<answer>"


class NoTemplate(Letters):
    def apply_chat_template(self, *_: object, **__: object) -> str:
        raise ValueError("no template")


def test_windows_follow_each_other_without_overlap() -> None:
    got = cut_windows("abcdefgh", Letters(), window=3, count=9)
    assert got.dtype is torch.int64
    assert got.tolist() == [[97, 98, 99], [100, 101, 102]]


def test_count_limits_the_windows() -> None:
    assert cut_windows("abcdefgh", Letters(), window=2, count=1).tolist() == [[97, 98]]


def test_text_that_fills_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="must fill a window of 9 tokens, and has 8"):
        cut_windows("abcdefgh", Letters(), window=9, count=1)


@pytest.mark.parametrize(("window", "count"), [(1, 1), (2, 0)])
def test_empty_windows_are_refused(window: int, count: int) -> None:
    with pytest.raises(ValueError, match="window must be at least 2 and count at least 1"):
        cut_windows("abcdefgh", Letters(), window=window, count=count)


def test_question_ends_where_the_answer_begins() -> None:
    assert "".join(map(chr, encode_question(Letters(), "hi"))) == "<user>hi<answer>"


def test_model_without_a_chat_template_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no chat template"):
        encode_question(NoTemplate(), "hi")


def test_topics_stand_in_the_order_of_their_names() -> None:
    text = python_topics()
    assert text.startswith('The "assert" statement')
    assert text.index('The "assert" statement') < text.index('The "yield" statement')


def test_text_must_be_utf8(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match="must be UTF-8, and byte 2 is not"):
        read_text(file)
    file.write_text("äb", encoding="utf-8")
    assert read_text(file) == "äb"
