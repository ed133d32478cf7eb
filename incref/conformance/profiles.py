"""Profiles: the operations and formats that go together on a machine, all or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from incref.conformance.case import Case

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What an implementation has to do to carry the name.

    Attributes:
        name: in `PROFILES`.
        ops: the operations, each of which it must have.
        formats: the formats that cases are taken of.
    """

    name: str
    ops: tuple[str, ...]
    formats: frozenset[str]

    def has(self, case: Case) -> bool:
        """Whether a case belongs to the profile: its operation does, and all of its formats."""
        return case.op in self.ops and case.formats <= self.formats


_OCP = frozenset({"float8_e4m3fn", "float8_e5m2"})
_FNUZ = frozenset({"float8_e4m3fnuz", "float8_e5m2fnuz"})
_FP8_OPS = ("encode", "decode", "compute_scale", "quantize_float", "dequantize_float", "fp8_matmul")

_ROWS = (
    Profile(
        name="int8",
        ops=("compute_scale", "quantize_affine", "dequantize_affine", "int8_matmul"),
        formats=frozenset({"int8", "uint8"}),
    ),
    Profile(
        name="wo4",
        ops=("compute_scale", "quantize_affine", "dequantize_affine", "pack", "unpack", "weight_only_matmul"),
        formats=frozenset({"int4", "uint4"}),
    ),
    Profile(name="fp8-ocp", ops=_FP8_OPS, formats=_OCP),
    Profile(name="fp8-fnuz", ops=_FP8_OPS, formats=_FNUZ),
    Profile(
        name="mx",
        ops=("quantize_mx", "dequantize_mx", "mx_matmul"),
        formats=frozenset({"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8"}),
    ),
    Profile(name="nvfp4", ops=("quantize_mx", "dequantize_mx", "mx_matmul"), formats=frozenset({"nvfp4"})),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({row.name: row for row in _ROWS})
"""Every profile by its name."""
