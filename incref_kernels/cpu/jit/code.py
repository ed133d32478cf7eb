"""Machine code of kernels, compiled once a machine and kept on disk."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import torch

import incref.formats
import incref.numerics
from incref_kernels.llvm import disk

__all__ = ["BodyKey", "body_key", "compiled"]


@dataclass(frozen=True)
class BodyKey:
    """What a body is: a function of a module, and arguments by name whose `repr` is complete."""

    function: Callable[..., object]
    arguments: tuple[tuple[str, object], ...]

    def __repr__(self) -> str:
        """Name it the same in every process."""
        return f"{self.function.__module__}.{self.function.__qualname__} {self.arguments!r}"


def body_key(body: "partial[Any]") -> BodyKey:
    """Tell the body of a kernel from others."""
    return BodyKey(body.func, tuple(sorted(body.keywords.items())))


@dataclass
class _Loaded:
    """Kernels of this process."""

    addresses: dict[tuple[object, ...], int] = field(default_factory=dict)
    # What holds the machine code.
    libraries: list[object] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


_loaded = _Loaded()


def compiled(key: tuple[object, ...], text: Callable[[], str]) -> int:
    """Give the address of the machine code of a kernel: that of this process, of the disk, or else new.

    Args:
        key: what tells the kernel from others; its `repr` is complete.
        text: writes the LLVM module of its function `run`, which takes the address of a `Work`.
    """
    found = _loaded.addresses.get(key)
    if found is None:
        with _loaded.lock:
            found = _loaded.addresses.get(key) or _load(key, text)
    return found


def _load(key: tuple[object, ...], text: Callable[[], str]) -> int:
    # It needs llvmlite, which may be missing.
    from incref_kernels.llvm import engine  # noqa: PLC0415

    described = f"{key!r} {torch.__version__}"
    name = sha256(f"{_own_source()}\0{engine.host_description()}\0{described}".encode()).hexdigest()
    path = disk.cache_directory("cpu") / name
    try:
        image = path.read_bytes()
    except FileNotFoundError:
        image = engine.build(text())
        disk.write_whole(path, image)
    loaded = engine.load(image)
    _loaded.libraries.append(loaded.library)
    _loaded.addresses[key] = loaded.address
    return loaded.address


@cache
def _own_source() -> str:
    """A digest of what makes the machine code: formats, the reference's arithmetic, and this package."""
    folders = [Path(str(file)).parent for file in (incref.formats.__file__, incref.numerics.__file__, disk.__file__)]
    return disk.source_digest([*folders, Path(__file__).parents[1]])
