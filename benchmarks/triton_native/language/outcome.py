"""What becomes of a row."""

from collections.abc import Callable
from typing import Any

import triton

from benchmarks.triton_native.language.row import Launch, Row
from incref.errors import UnsupportedError

__all__ = ["outcome"]


def outcome(row: Row, launch: Launch | None = None) -> dict[str, Any]:
    """Run a row.

    Args:
        row: what is run.
        launch: how; compiled for the CPU if left out.

    Returns:
        `{"wrong": count}`; `{"refused": why}` where Triton's own language or compiler has no such thing;
        `{"unsupported": why}` where it can't be run on the CPU.
    """
    try:
        return {"wrong": row.wrong(launch or _natively())}
    except UnsupportedError as error:
        # What Triton itself can't lower has its error for a cause.
        return {"unsupported" if error.__cause__ is None else "refused": _last_line(error)}
    except triton.CompilationError as error:
        return {"refused": _last_line(error)}
    except Exception as error:  # noqa: BLE001  # the interpreter raises whatever it stumbles over
        return {"raises": f"{type(error).__name__}: {_last_line(error)}"}


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _natively() -> Callable[..., None]:
    from incref_kernels.triton.native.native import native  # noqa: PLC0415 (not where Triton interprets)

    def launch(kernel: object, grid: int, *args: object, **constants: object) -> None:
        native(kernel)[grid](*args, **constants)

    return launch
