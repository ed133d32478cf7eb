"""How commands end that can't do what they were asked: a paragraph on stderr and an exit code, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from incref.errors import IncrefError

__all__ = ["reporting_failures"]

_INTERRUPTED = 130


@contextmanager
def reporting_failures(*, on_interrupt: str = "") -> Iterator[None]:
    """Turn the failures that a user can do something about into a message and exit code 1.

    Args:
        on_interrupt: what to say after Ctrl-C, which ends with the exit code 130, as shells have it.
    """
    try:
        yield
    except (IncrefError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except MemoryError:
        typer.echo("error: the memory is not enough for this model; the float32 weights have to fit twice", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"interrupted. {on_interrupt}".strip(), err=True)
        raise typer.Exit(_INTERRUPTED) from None
