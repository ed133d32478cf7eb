"""The operations of `incref.ops.OPS`: an overview, and a reference section for each."""

from markdown_cells import code, table

from incref.ops import OPS

__all__ = ["op_references", "op_tolerances", "ops"]


def ops() -> str:
    """Version, exactness, tensors and results of every operation."""
    rows = [
        [
            f"[{code(name)}](#{op.__module__}.{name})",
            op.version,
            f"{op.exactness.name}, {op.exactness.value}",
            ", ".join(arg.name for arg in op.args),
            ", ".join(result.name for result in op.results),
        ]
        for name, op in OPS.items()
    ]
    return table(["operation", "version", "exactness", "tensors", "results"], rows)


def op_tolerances() -> str:
    """What an implementation of an operation that is not bitwise may give."""
    bounded = [(name, op.tolerance) for name, op in OPS.items() if op.tolerance is not None]
    rows = [[code(name), found.exact_on, found.bound, code(found.proof)] for name, found in bounded]
    return table(["operation", "bitwise on", "elsewhere", "derived in"], rows)


def op_references() -> str:
    """A directive for each operation, that its signature and docstring replace."""
    return "\n\n".join(f"::: {op.__module__}.{name}" for name, op in OPS.items())
