"""Every generated table, by the name that pages give it."""

from collections.abc import Callable, Mapping

import format_tables
import op_tables
import scheme_tables

__all__ = ["TABLES"]

TABLES: Mapping[str, Callable[[], str]] = {
    name: getattr(module, name) for module in (format_tables, op_tables, scheme_tables) for name in module.__all__
}
