"""What `tl.device_print` writes."""

import ctypes
import re
import struct
import threading
from collections.abc import Sequence

__all__ = ["PRINT", "formatted"]

_FIELD = re.compile(r"%(?P<flags>[-+ 0#]*\d*(?:\.\d+)?)(?:hh|h|ll|l)?(?P<kind>[diuxXfgep%])")
_waiting = threading.local()


def formatted(text: str, words: Sequence[int]) -> str:
    """Fill a format of C's printf.

    Args:
        text: the format.
        words: the arguments, 64 bits each; floats as the bits of a double.

    >>> formatted("pid (%u) v: %f", [3, 0x3FF8000000000000])
    'pid (3) v: 1.500000'
    """
    rest = iter(words)

    def fill(match: re.Match[str]) -> str:
        kind = match["kind"]
        if kind == "%":
            return "%"
        word = next(rest) & 0xFFFFFFFFFFFFFFFF
        if kind in "fge":
            return f"%{match['flags']}{kind}" % struct.unpack("<d", struct.pack("<Q", word))
        if kind in "di":
            return f"%{match['flags']}d" % (word - (1 << 64) if word >> 63 else word)
        return f"%{match['flags']}{'x' if kind == 'p' else 'd' if kind == 'u' else kind}" % word

    return _FIELD.sub(fill, text)


def _print(address: int, count: int, values: "ctypes._Pointer[ctypes.c_int64]", last: int) -> None:
    words: list[int] = [*getattr(_waiting, "words", []), *values[:count]]
    if not last:
        _waiting.words = words
        return
    _waiting.words = []
    print(formatted(ctypes.string_at(address).decode(), words), end="", flush=True)  # noqa: T201 (what device_print is for)


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int32, ctypes.POINTER(ctypes.c_int64), ctypes.c_int32)(
    _print
)
PRINT = ctypes.cast(_CALLBACK, ctypes.c_void_p).value
