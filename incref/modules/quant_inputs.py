"""`QuantInputs`: what all modules without weights that quantize their inputs have in common."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from incref.config.scheme import InputScheme
from incref.modules.binding import Binding
from incref.modules.input import InputQuantizer
from incref.modules.kept_buffers import KeptBuffers
from incref.qtensor.parts import REFERENCE

__all__ = ["QuantInputs"]


class QuantInputs(KeptBuffers):
    """A module without weights that quantizes its inputs.

    Static scales are buffers, "x_scale" for the input x.

    Attributes:
        arguments: names of its inputs.
        scheme: what happens to them.
    """

    arguments: ClassVar[tuple[str, ...]]

    def __init__(self, scheme: InputScheme, scales: Mapping[str, Tensor] | None = None) -> None:
        """Make the module.

        Args:
            scheme: what happens to inputs.
            scales: of every input by its name, float32 [], if they are static.

        Raises:
            ValueError: if scales are missing, not asked for, or of another dtype or shape.
        """
        super().__init__()
        given = dict(scales or {})
        wanted = self.arguments if scheme.is_static else ()
        if sorted(given) != sorted(wanted):
            raise ValueError(f"static scales are needed of {', '.join(wanted) or 'nothing'}, got {', '.join(given)}")
        self.scheme = scheme
        for name in self.arguments:
            scale = given.get(name)
            if scale is not None and (scale.dtype is not torch.float32 or scale.shape != ()):
                raise ValueError(
                    f"the scale of {name} must be torch.float32 of shape (), got {scale.dtype} of {tuple(scale.shape)}"
                )
            self.register_buffer(f"{name}_scale", scale)
        self._quantizers = REFERENCE

    def bind(self, binding: Binding, device_type: str) -> None:
        """Quantize by the kernels of a backend from now on, on devices of that type; they give the same bits."""
        self._quantizers = binding.quantizers(device_type)

    def extra_repr(self) -> str:
        """What happens to inputs."""
        return str(self.scheme)

    def _quantize(self, name: str, x: Tensor, *, is_transposed: bool = False) -> Tensor:
        """Quantize and dequantize the input called `name`."""
        spec = self.scheme.activation
        quantizer = InputQuantizer(
            elementwise=self.scheme.elementwise,
            activation=spec.transposed() if is_transposed else spec,
            scale_method=self.scheme.input_scale,
            by=self._quantizers,
        )
        return quantizer(x, self._buffers.get(f"{name}_scale"))
