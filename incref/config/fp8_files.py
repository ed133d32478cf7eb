"""Fields of `FP8Config` as the files for Neural Compressor's spell them."""

from collections.abc import Mapping
from types import MappingProxyType

from incref.errors import UnsupportedError
from incref.qtensor.format_json import Json

__all__ = ["read_fields"]

_RENAMED: Mapping[str, str] = MappingProxyType({"whitelist": "allowlist", "blacklist": "blocklist"})

_WITHOUT_EFFECT = ("dump_stats_xlsx_path", "verbose", "seperate_measure_files", "recalc_scales")
"""About how measurements and scales are stored; here they are one file, and scales are always computed."""

_NEEDED: Mapping[str, tuple[Json, str]] = MappingProxyType(
    {
        "method": ("HOOKS", "there is one method"),
        "device_for_scales": (None, "set target"),
        "ignore_modules_wo_measures": (False, "measure them, or name them in blocklist"),
        "row_parallel_linear_allreduce_quantization": (False, "sums between devices are not quantized"),
        "calibration_sample_interval": (0, "all that the prepared model is fed counts"),
    }
)
"""Fields that have to hold this value, and what to do if they hold another one."""

_IN_CAPITALS = ("fp8_config", "mode", "measure_exclude")
_IN_SMALL_LETTERS = ("hp_dtype", "scale_method", "observer", "scale_format")


def read_fields(described: Mapping[str, Json]) -> dict[str, Json]:
    """Give the fields the names and spelling that `FP8Config` has for them.

    Names may be in capitals or small letters. "whitelist" and "blacklist" are `allowlist` and `blocklist`. Fields that
    make no difference here are left out: "dump_stats_xlsx_path", "verbose", "seperate_measure_files" and
    "recalc_scales"; and so are, with the value that they have by default, "method", "device_for_scales",
    "ignore_modules_wo_measures", "row_parallel_linear_allreduce_quantization" and "calibration_sample_interval".

    Raises:
        ValueError: if a list is there under both of its names.
        UnsupportedError: for another value of those with a default.

    >>> read_fields({"method": "HOOKS", "mode": "quantize", "blacklist": {"names": ["lm_head"]}})
    {'mode': 'QUANTIZE', 'blocklist': {'names': ['lm_head']}}
    """
    fields: dict[str, Json] = {}
    for key, value in described.items():
        if key in _RENAMED and _RENAMED[key] in described:
            raise ValueError(f"{_RENAMED[key]} is also called {key}; give one of them")
        if key in _NEEDED and value != _NEEDED[key][0]:
            raise UnsupportedError(f"{key} must be {_NEEDED[key][0]!r}, got {value!r}; {_NEEDED[key][1]}")
        if key not in _NEEDED and key not in _WITHOUT_EFFECT:
            fields[_RENAMED.get(key, key)] = _spelled(key, value)
    return fields


def _spelled(key: str, value: Json) -> Json:
    if not isinstance(value, str):
        return value
    if key in _IN_CAPITALS:
        return value.upper()
    return value.lower() if key in _IN_SMALL_LETTERS else value
