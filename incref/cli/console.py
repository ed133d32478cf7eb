"""Where tables go: to stdout, as wide as the terminal, or unwrapped into a pipe."""

import sys

from rich.console import Console

__all__ = ["stdout_console"]

# Wider than any table here, so that what reads a pipe sees one line a row.
_UNWRAPPED = 240


def stdout_console() -> Console:
    """Make the console that results are printed on."""
    return Console() if sys.stdout.isatty() else Console(width=_UNWRAPPED)
