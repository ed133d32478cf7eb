"""The words of LLVM's textual assembly."""

import re
from enum import Enum, auto
from typing import NamedTuple

from incref.errors import UnsupportedError

__all__ = ["Kind", "Token", "tokens"]


class Kind(Enum):
    """What a token is; the order is the one in which the patterns are tried."""

    LOCAL = auto()
    GLOBAL = auto()
    METADATA = auto()
    GROUP = auto()
    STRING = auto()
    LABEL = auto()
    NUMBER = auto()
    WORD = auto()
    PUNCTUATION = auto()
    END = auto()


class Token(NamedTuple):
    """A word of the text, and where it starts."""

    kind: Kind
    text: str
    at: int


_NAME = r"(?:[-a-zA-Z$._0-9]+|\"[^\"]*\")"
_PATTERNS = {
    Kind.LOCAL: rf"%{_NAME}",
    Kind.GLOBAL: rf"@{_NAME}",
    Kind.METADATA: r"!(?:[-a-zA-Z$._][-a-zA-Z$._0-9]*|[0-9]+|\"[^\"]*\")?",
    Kind.GROUP: r"#[0-9]+",
    Kind.STRING: r"c?\"[^\"]*\"",
    Kind.LABEL: rf"{_NAME}:",
    Kind.NUMBER: (
        r"f?0x[HRKLM]?[0-9A-Fa-f]+|[-+]?(?:inf|s?q?nan)\b(?:\(0x[0-9A-Fa-f]+\))?"
        r"|[-+]?[0-9]+(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?)?"
    ),
    Kind.WORD: r"[a-zA-Z_][a-zA-Z_0-9.]*",
    Kind.PUNCTUATION: r"\.\.\.|[()\[\]{}<>,=*|:$^]",
}
_GROUPS = {kind.name: kind for kind in _PATTERNS}
_TOKEN = re.compile(
    r"(?:\s+|;[^\n]*)*(?:" + "|".join(f"(?P<{kind.name}>{text})" for kind, text in _PATTERNS.items()) + ")"
)
_REST = re.compile(r"(?:\s+|;[^\n]*)*\Z")


def tokens(text: str) -> list[Token]:
    """Split `text` into tokens; an END closes the list.

    Raises:
        UnsupportedError: at a character that no token starts with.
    """
    found, at = [], 0
    while match := _TOKEN.match(text, at):
        name = match.lastgroup
        assert name is not None
        found.append(Token(_GROUPS[name], match[name], match.start(name)))
        at = match.end()
    if not _REST.match(text, at):
        line = text.count("\n", 0, at) + 1
        raise UnsupportedError(f"line {line} of the kernel's LLVM IR is not understood: {text[at : at + 40]!r}")
    found.append(Token(Kind.END, "", len(text)))
    return found
