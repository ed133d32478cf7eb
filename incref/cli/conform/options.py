"""Arguments that several commands of `incref conform` have, and what they stand for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from incref.cli.failures import reporting_failures
from incref.conformance.discovery import find_implementations
from incref.conformance.implementation import Implementation
from incref.conformance.profiles import PROFILES, Profile
from incref.ops.table import OPS

__all__ = ["ImplementationName", "Level", "Seed", "find_one", "find_profile", "require_ops", "using_modules"]

ImplementationName = Annotated[
    str,
    typer.Argument(
        metavar="IMPLEMENTATION",
        help='"reference", a backend, an entry point of incref.kernels, or package.module:thing.',
    ),
]
Level = Annotated[int, typer.Option("--level", "-l", min=0, max=3, help="0 in seconds to 3 until stopped.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of random cases.")]


def find_profile(name: str | None) -> Profile | None:
    """Look a profile up.

    Raises:
        typer.BadParameter: if there is none of that name.
    """
    if name is None or name in PROFILES:
        return None if name is None else PROFILES[name]
    raise typer.BadParameter(f"no profile is called {name!r}; there are {', '.join(PROFILES)}")


def require_ops(names: list[str] | None) -> tuple[str, ...]:
    """Check the names of operations.

    Raises:
        typer.BadParameter: if there is none of such a name.
    """
    for name in names or ():
        if name not in OPS:
            raise typer.BadParameter(f"no operation is called {name!r}; there are {', '.join(OPS)}")
    return tuple(names or ())


def find_one(name: str, device: str = "cpu") -> Implementation:
    """Find the one implementation that `name` stands for, to be judged on a device.

    Raises:
        typer.BadParameter: if a register function adds several.
    """
    found = find_implementations(name, device)
    if len(found) != 1:
        raise typer.BadParameter(
            f"{name} registers {len(found)} implementations ({', '.join(one.name for one in found)}); name one function"
        )
    return found[0]


@contextmanager
def using_modules() -> Iterator[None]:
    """Report what a user's module or name is wrong with, without a traceback."""
    with reporting_failures():
        try:
            yield
        except (ImportError, ValueError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
