"""A place in a list of tokens, and the small steps that a parser takes from it."""

from typing import NoReturn

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.lexer import Kind, Token, tokens

__all__ = ["Cursor"]

_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}


def _prefixed(token: Token, prefix: str) -> Token:
    if token.kind not in {Kind.LOCAL, Kind.LABEL}:
        return token
    mark = "%" if token.kind is Kind.LOCAL else ""
    name = token.text[len(mark) :]
    quote = '"' if name.startswith('"') else ""
    return token._replace(text=f"{mark}{quote}{prefix}{name[len(quote) :]}")


class Cursor:
    """Reads the tokens of `text` one by one.

    Args:
        text: LLVM IR.
        prefix: put before the name of every value and block, so that no name of another text is met.
    """

    def __init__(self, text: str, *, prefix: str = "") -> None:
        self._text = text
        self._tokens = [_prefixed(token, prefix) for token in tokens(text)] if prefix else tokens(text)
        self._index = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self._tokens[self._index]

    @property
    def text(self) -> str:
        """The next token's text."""
        return self._tokens[self._index].text

    def after(self, count: int) -> str:
        """The text of the token `count` places further on."""
        return self._tokens[min(self._index + count, len(self._tokens) - 1)].text

    def next(self) -> Token:
        """Take the next token."""
        token = self._tokens[self._index]
        self._index += 1
        return token

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of `texts`."""
        if self.text in texts:
            return self.next().text
        return None

    def expect(self, text: str) -> None:
        """Take the next token, which has to be `text`."""
        if self.text != text:
            self.fail(f"{text!r}")
        self._index += 1

    def take(self, kind: Kind) -> str:
        """Take the next token, which has to be of `kind`."""
        if self.token.kind is not kind:
            self.fail(f"a {kind.name.lower()}")
        return self.next().text

    def integer(self) -> int:
        """Take an integer."""
        return int(self.take(Kind.NUMBER))

    def skip_group(self) -> str:
        """Skip from an opening bracket to the one that closes it; its text."""
        first = self.next()
        depth = [_CLOSING[first.text]]
        while depth:
            token = self.next()
            if token.kind is Kind.END:
                self.fail(f"{depth[-1]!r}")
            if token.text == depth[-1]:
                depth.pop()
            elif token.kind is Kind.PUNCTUATION and token.text in _CLOSING:
                depth.append(_CLOSING[token.text])
        last = self._tokens[self._index - 1]
        return self._text[first.at : last.at + len(last.text)]

    def between(self, start: int) -> str:
        """The text from the position `start` to the next token."""
        return self._text[start : self.token.at].strip()

    def fail(self, expected: str) -> NoReturn:
        """Say where the text is not understood.

        Raises:
            UnsupportedError: always.
        """
        line = self._text.count("\n", 0, self.token.at)
        words = self._text.splitlines()[line].strip() if line < self._text.count("\n") + 1 else ""
        raise UnsupportedError(
            f"line {line + 1} of the kernel's LLVM IR is not understood: expected {expected}, got {self.text!r} "
            f"in {words[:160]!r}"
        )
