"""The text that models are compared on, cut into windows of tokens."""

import importlib
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from incref.errors import UnsupportedError

__all__ = ["Tokenizer", "cut_windows", "encode_question", "python_topics", "read_text"]


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """Return the text of `token_ids`."""
        ...

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Return `conversation` as the model was trained to see it, up to where its answer begins."""
        ...


def python_topics() -> str:
    """Return the language reference that Python's own `help()` shows: about 465,000 characters of English and code.

    The topics stand in the order of their names, a blank line between them. The text is that of the running Python, so
    results are comparable within one minor version; nothing has to be downloaded.

    Raises:
        ModuleNotFoundError: if this Python was installed without it.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this Python has no {error.name}, some distributions leave it out; give a text"
        ) from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file.

    Raises:
        ValueError: if the file is not UTF-8.
        OSError: if it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a text must be UTF-8, and byte {error.start} is not ({error.reason})") from error


def encode_question(tokenizer: Tokenizer, question: str) -> list[int]:
    """Return the token ids of `question` as a user's turn, up to where the model's answer begins.

    Raises:
        UnsupportedError: if the model has no chat template.
    """
    conversation = [{"role": "user", "content": question}]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    except ValueError as error:
        raise UnsupportedError(
            "the tokenizer of the model has no chat template; give the prompt as plain text"
        ) from error
    return tokenizer.encode(text, add_special_tokens=False)


def cut_windows(text: str, tokenizer: Tokenizer, *, window: int, count: int) -> Tensor:
    """Cut the beginning of `text` into windows that don't overlap.

    Args:
        text: what is tokenized, without special tokens.
        tokenizer: gives the token ids.
        window: tokens in a window.
        count: how many windows to take; fewer if the text ends before. A last window that isn't full is left out.

    Returns:
        Token ids, int64 [n, window], n <= count.

    Raises:
        ValueError: if the text does not fill one window, or `window` or `count` is too small.
    """
    if window < 2 or count < 1:
        raise ValueError(f"window must be at least 2 and count at least 1, got {window} and {count}")
    ids = tokenizer.encode(text, add_special_tokens=False)
    n = min(count, len(ids) // window)
    if n == 0:
        raise ValueError(f"the text must fill a window of {window} tokens, and has {len(ids)}; give a longer one")
    return torch.tensor(ids[: n * window], dtype=torch.int64).view(n, window)
