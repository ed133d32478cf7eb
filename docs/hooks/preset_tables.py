"""The vendors' choices of `incref.formats.presets.MX_PRESETS` as a table."""

from enum import Enum

from markdown_cells import code, table

from incref.formats.presets import MX_PRESETS, MxPreset

__all__ = ["mx_presets"]


def mx_presets() -> str:
    """Options, formats and source of every preset."""
    header = ["preset", "rule", "rounding", "NaN block", "Inf block", "formats", "source", "what is not reproduced"]
    return table(header, map(_row, MX_PRESETS.values()))


def _row(preset: MxPreset) -> list[str]:
    choices: list[Enum] = [preset.rule, preset.rounding, preset.nan_block, preset.inf_block]
    formats = ", ".join(map(code, preset.formats))
    return [code(preset.name), *(code(choice.name) for choice in choices), formats, preset.source, preset.note]
