"""`incref plan`: what every layer of a model would become, before anything runs."""

import json
from typing import Annotated

import typer
from rich.table import Table

from incref.cli.console import stdout_console
from incref.cli.failures import reporting_failures
from incref.cli.options import AsJson, ConfigFile, ModelDirectory, read_configs, require_scheme
from incref.config.decision import Decision, Plan
from incref.config.resolve import QuantConfig
from incref.config.resolve import plan as plan_of
from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.evaluation.huggingface import load_model
from incref.modules.transformers_attention import expose_attention
from incref.qtensor.format_json import Json

__all__ = ["plan"]


def plan(
    directory: ModelDirectory,
    scheme: Annotated[str | None, typer.Option(help=f"One of {', '.join(SCHEMES)}.")] = None,
    config: ConfigFile = None,
    json_: AsJson = False,  # noqa: FBT002  # typer makes a flag of it
) -> None:
    """Show what every layer would become: format, bits for each weight, and why a layer is left alone."""
    if (scheme is None) == (config is None):
        raise typer.BadParameter("give a scheme or the file of a configuration, one of the two", param_hint="--scheme")
    with reporting_failures():
        wanted = _only(read_configs(config)) if config is not None else SCHEMES[require_scheme(str(scheme))]
        model = load_model(directory)
        if isinstance(wanted, LayerScheme) and wanted.inputs is not None:
            expose_attention(model)
        found = plan_of(model, wanted)
    if json_:
        typer.echo(json.dumps([_described(one) for one in found.decisions], indent=2))
        return
    stdout_console().print(_table(found))
    typer.echo(f"{found.float_bytes / 1e6:.1f} MB of weights now, {found.stored_bytes / 1e6:.1f} MB then")


def _only(configs: list[QuantConfig]) -> QuantConfig:
    if len(configs) != 1:
        raise typer.BadParameter(f"a plan is one configuration's, got {len(configs)}", param_hint="--config")
    return configs[0]


def _described(one: Decision) -> dict[str, Json]:
    shape: list[Json] = list(one.shape)
    return {
        "layer": one.name,
        "shape": shape,
        "becomes": None if one.scheme is None else str(one.scheme),
        "bits_per_weight": one.bits_per_weight,
        "bytes": one.stored_bytes,
        "reason": one.reason,
    }


def _table(found: Plan) -> Table:
    table = Table()
    for column in ("layer", "shape", "becomes", "bits", "why"):
        table.add_column(column, justify="right" if column == "bits" else "left")
    for one in found.decisions:
        becomes = "as it is" if one.scheme is None else str(one.scheme)
        shape = " x ".join(str(size) for size in one.shape)
        table.add_row(one.name, shape, becomes, f"{one.bits_per_weight:.3f}", one.reason)
    return table
