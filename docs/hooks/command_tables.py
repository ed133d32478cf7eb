"""The commands of `incref` with their arguments and options, as the command line itself describes them."""

from collections.abc import Iterator

from markdown_cells import code, table
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from incref.cli.main import app

__all__ = ["commands"]


def commands() -> str:
    """A section for each command."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return "\n\n".join(_sections("incref", group))


def _sections(prefix: str, group: TyperGroup) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _sections(f"{prefix} {name}", command)
        else:
            rows = table(["", "meaning", "default"], map(_row, command.params))
            yield f"## {prefix} {name}\n\n{command.help}\n\n{rows}"


def _row(parameter: object) -> list[str]:
    assert isinstance(parameter, TyperArgument | TyperOption)
    is_option = isinstance(parameter, TyperOption)
    names = ", ".join(map(code, parameter.opts)) if is_option else code(parameter.metavar or parameter.name.upper())
    default = "required" if parameter.required else _default(parameter.default)
    return [names, parameter.help or "", default]


def _default(value: object) -> str:
    return "" if value in (None, False, ()) else code(str(value))
