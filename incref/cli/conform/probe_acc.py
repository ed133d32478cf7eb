"""`incref conform probe-acc`: the accumulator of a matrix product, measured."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from incref.cli.conform.options import ImplementationName, find_one, using_modules
from incref.cli.options import AsJson
from incref.conformance.identify_product import PRODUCTS
from incref.conformance.implementation import Candidate
from incref.conformance.integer_sums import probe_integers
from incref.conformance.plan import kept_bits
from incref.conformance.probe_accumulator import probe_accumulator

__all__ = ["probe_acc"]


def probe_acc(
    implementation: ImplementationName,
    op: Annotated[
        str | None, typer.Option("--op", help=f"{', '.join(PRODUCTS)}; the first that it has by itself.")
    ] = None,
    fmt: Annotated[
        str | None, typer.Option("--format", help="Of the factors; one with many exponents by itself.")
    ] = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Measure how many bits an accumulator keeps, how it rounds, and how many products it aligns together.

    Of integers it says which sums are exact, and what becomes of those beyond 32 bits. The exit code is 1 if fewer bits
    are kept than are declared, or a sum of integers within 32 bits is wrong.
    """
    with using_modules():
        candidates = find_one(implementation).candidates
        name = op or next((one for one in PRODUCTS if one in candidates), "")
        if name not in candidates:
            raise typer.BadParameter(
                f"{implementation} has no {op or 'product'}; it has {', '.join(candidates)}, and products are "
                f"{', '.join(PRODUCTS)}"
            )
        candidate = candidates[name]
        is_good = (_integers if name == "int8_matmul" else _floats)(candidate, fmt, as_json=json_)
    if not is_good:
        raise typer.Exit(1)


def _integers(candidate: Candidate, fmt: str | None, *, as_json: bool) -> bool:
    found = probe_integers(candidate, fmt or "int8")
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        typer.echo(f"{candidate.op}: {found.wrong} of {found.total} sums within int32 are wrong")
        typer.echo(f"they are those of {found.width or 'no accumulator that is known'}; {found.beyond}")
        if found.first:
            typer.echo(f"first: {found.first}")
    return not found.wrong


def _floats(candidate: Candidate, fmt: str | None, *, as_json: bool) -> bool:
    found, declared = probe_accumulator(candidate, fmt), kept_bits(candidate.accumulator)
    rounding = None if found.rounding is None else found.rounding.value
    if as_json:
        told = {
            **asdict(found),
            "rounding": rounding,
            "declared": repr(candidate.accumulator),
            "declared_bits": declared,
        }
        typer.echo(json.dumps(told, indent=1))
    else:
        how = rounding or "none of the roundings that are known"
        typer.echo(f"{candidate.op}: {found.bits} bits below the first, {how}, groups of {found.group}")
        if found.order:
            typer.echo(f"neighbours are added {found.order}")
        typer.echo(f"declared: {candidate.accumulator!r}, which keeps {declared}")
    return found.bits >= declared
