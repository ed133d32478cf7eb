"""The line of the source that an instruction comes from."""

from dataclasses import dataclass

from incref_kernels.triton.native.llir.model import Module, Node

__all__ = ["SourceLine", "source_line"]


@dataclass(frozen=True, kw_only=True)
class SourceLine:
    """A line of a Python file; 0 where the compiler kept none."""

    file: str
    line: int

    def __str__(self) -> str:
        """File and line, as an editor takes them."""
        return f"{self.file}:{self.line}" if self.line else "an unknown line"


def source_line(module: Module, location: int | None) -> SourceLine:
    """Find the line of the kernel itself: of code inlined from elsewhere, the line of the call.

    Args:
        module: the module that holds the metadata.
        location: the number of a `DILocation`, or None.
    """
    node = module.nodes.get(location) if location is not None else None
    if node is None or node.kind != "DILocation":
        return SourceLine(file="", line=0)
    while (outer := _reference(module, node, "inlinedAt")) is not None:
        node = outer
    return SourceLine(file=_file(module, node), line=int(node.fields.get("line", "0")))


def _reference(module: Module, node: Node, field: str) -> Node | None:
    target = node.fields.get(field, "")
    return module.nodes.get(int(target[1:])) if target[:1] == "!" and target[1:].isdigit() else None


def _file(module: Module, node: Node) -> str:
    scope = _reference(module, node, "scope")
    while scope is not None:
        if (file := _reference(module, scope, "file")) is not None:
            directory, name = (file.fields.get(key, '""').strip('"') for key in ("directory", "filename"))
            return f"{directory}/{name}" if directory else name
        scope = _reference(module, scope, "scope")
    return ""
