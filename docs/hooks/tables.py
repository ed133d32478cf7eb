"""Every generated table, by the name that pages give it."""

from collections.abc import Callable, Mapping

import benchmark_tables
import command_tables
import conformance_tables
import cpu_tables
import format_tables
import inference_tables
import machine_tables
import op_tables
import peer_tables
import preset_tables
import scheme_tables
import speed_tables
import triton_tables

__all__ = ["TABLES"]

_MODULES = (
    benchmark_tables,
    command_tables,
    conformance_tables,
    cpu_tables,
    format_tables,
    inference_tables,
    machine_tables,
    op_tables,
    peer_tables,
    preset_tables,
    scheme_tables,
    speed_tables,
    triton_tables,
)

TABLES: Mapping[str, Callable[[], str]] = {
    name: getattr(module, name) for module in _MODULES for name in module.__all__
}
