"""Compiled kernels on disk.

An entry is one file, named for the digest of all that its content depends on: a line of JSON, then the object file.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from incref_kernels.llvm import engine
from incref_kernels.llvm.disk import source_digest, write_whole
from incref_kernels.triton.native.host.segments import Site
from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.locations import SourceLine
from incref_kernels.triton.native.llir.parse_types import parse_type
from incref_kernels.triton.native.llir.types import FloatType, Type
from incref_kernels.triton.native.worker import Layout

__all__ = ["Artifact", "digest", "read", "write"]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """All that a launch needs of a compilation.

    Attributes:
        image: the object file.
        name: the kernel's name.
        signature: the type of each parameter.
        parameters: the types that the machine code takes.
        layout: the memory that a program needs.
        sites: the numbered places, for messages.
    """

    image: bytes
    name: str
    signature: tuple[object, ...]
    parameters: tuple[Type, ...]
    layout: Layout
    sites: tuple[Site, ...]


@cache
def _own_source() -> str:
    """A digest of what makes the entries: this package, and the one that compiles."""
    return source_digest([Path(__file__).parent, Path(engine.__file__).parent])


def digest(*parts: str) -> str:
    """Name the entry that depends on `parts`, and on this package."""
    return hashlib.sha256("\0".join([_own_source(), *parts]).encode()).hexdigest()


def read(directory: Path, name: str) -> Artifact | None:
    """Read an entry; None if there is none."""
    try:
        content = (directory / name).read_bytes()
    except FileNotFoundError:
        return None
    header, _, image = content.partition(b"\n")
    facts = json.loads(header)
    return Artifact(
        image=image,
        name=facts["name"],
        signature=_tuples(facts["signature"]),
        parameters=tuple(parse_type(Cursor(text)) for text in facts["parameters"]),
        layout=Layout(**facts["layout"]),
        sites=tuple(Site(what=what, line=SourceLine(file=file, line=line)) for what, file, line in facts["sites"]),
    )


def write(directory: Path, name: str, artifact: Artifact) -> None:
    """Write an entry; another process that reads it sees all of it or nothing."""
    facts = {
        "name": artifact.name,
        "signature": artifact.signature,
        "parameters": [kind.name if isinstance(kind, FloatType) else str(kind) for kind in artifact.parameters],
        "layout": artifact.layout.__dict__,
        "sites": [(site.what, site.line.file, site.line.line) for site in artifact.sites],
    }
    write_whole(directory / name, json.dumps(facts).encode() + b"\n" + artifact.image)


def _tuples(value: list[object]) -> tuple[object, ...]:
    return tuple(_tuples(item) if isinstance(item, list) else item for item in value)
