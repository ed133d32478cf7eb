"""`incref conform probe-acc`: the accumulator of a matrix product, measured."""

from typing import Annotated

import typer

from incref.cli.conform.options import ImplementationName, find_one, using_modules
from incref.conformance.plan import kept_bits
from incref.conformance.probe_accumulator import probe_accumulator

__all__ = ["probe_acc"]


def probe_acc(
    implementation: ImplementationName,
    op: Annotated[str, typer.Option("--op", help="weight_only_matmul or fp8_matmul.")] = "fp8_matmul",
) -> None:
    """Measure how many bits an accumulator keeps, how it rounds, and how many products it aligns together.

    The exit code is 1 if it keeps fewer bits than are declared.
    """
    with using_modules():
        candidates = find_one(implementation).candidates
        if op not in candidates:
            raise typer.BadParameter(f"{implementation} has no {op!r}; it has {', '.join(candidates)}")
        candidate = candidates[op]
        found = probe_accumulator(candidate)
    rounding = "none of the roundings that are known" if found.rounding is None else found.rounding.value
    typer.echo(f"{implementation} {op}: {found.bits} bits below the first, {rounding}, groups of {found.group}")
    if found.order:
        typer.echo(f"neighbours are added {found.order}")
    declared = kept_bits(candidate.accumulator)
    typer.echo(f"declared: {candidate.accumulator!r}, which keeps {declared}")
    if found.bits < declared:
        raise typer.Exit(1)
