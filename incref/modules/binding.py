"""Which backends a module may compute by."""

from dataclasses import dataclass

from torch import Tensor

from incref.backends.backend import Backend
from incref.backends.discovery import backends_for, find_backend
from incref.errors import UnsupportedError
from incref.qtensor.parts import REFERENCE, Quantizers, quantizers_of

__all__ = ["AUTO", "REFERENCE_ONLY", "Binding"]

AUTO = "auto"
_REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Which backends a module may compute by.

    Attributes:
        backend: "reference" for none; "auto" for those that can run here and are fast on the device of the module, the
            first of them that can, else the reference; or the name of one.
        fallback: "reference" where that computes whatever the named backend can't; None where that is an error.

    Raises:
        ValueError: for another fallback.
    """

    backend: str = _REFERENCE
    fallback: str | None = None

    def __post_init__(self) -> None:
        """Refuse another fallback."""
        if self.fallback not in (None, _REFERENCE):
            raise ValueError(f'fallback must be None or "reference", got {self.fallback!r}')

    @property
    def names_one(self) -> bool:
        """Whether a backend is named, which then computes its own operations."""
        return self.backend not in (_REFERENCE, AUTO)

    @property
    def falls_back(self) -> bool:
        """Whether the reference may compute."""
        return self.fallback is not None or not self.names_one

    def backends(self, device_type: str) -> list[Backend]:
        """The backends to ask, in their order, for a module on a device of that type.

        Raises:
            UnsupportedError: if the named one is not installed, or can't run here and nothing else may.
        """
        if not self.names_one:
            return backends_for(device_type) if self.backend == AUTO else []
        named = find_backend(self.backend)
        reason = named.why_unavailable()
        if reason is None:
            return [named]
        if self.falls_back:
            return []
        raise UnsupportedError(f"backend {named.name!r} can't run here: {reason}")

    def quantizers(self, device_type: str, scale: Tensor | None = None) -> Quantizers:
        """What quantizes inputs, by `scale` if that is static: they give the same bits everywhere."""
        able = self.backends(device_type)
        return quantizers_of(able[0], scale) if able else REFERENCE


REFERENCE_ONLY = Binding()
"""No backend."""
