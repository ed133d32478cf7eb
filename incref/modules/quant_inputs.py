"""`QuantInputs`: what all modules without weights that quantize their inputs have in common."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from incref.config.scheme import InputScheme
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.input import InputQuantizer
from incref.modules.kept_buffers import KeptBuffers
from incref.qtensor.parts import REFERENCE, Quantizers

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
        self._binding, self._device_type = REFERENCE_ONLY, "cpu"
        self._quantizers: Mapping[str, Quantizers] = dict.fromkeys(self.arguments, REFERENCE)

    def bind(self, binding: Binding, device_type: str) -> None:
        """Quantize by the kernels of a backend from now on, on devices of that type; they give the same bits."""
        self._binding, self._device_type = binding, device_type
        self._quantizers = {name: binding.quantizers(device_type, self._scale(name)) for name in self.arguments}

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
            by=self._quantizers[name],
        )
        return quantizer(x, self._scale(name))

    def _scale(self, name: str) -> Tensor | None:
        """The static scale of the input called `name`."""
        return self._buffers.get(f"{name}_scale")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as in nn.Module
        """Read the scales, and give them to the kernels."""
        super()._load_from_state_dict(*args, **kwargs)
        self._bind_again()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # as in nn.Module
        """Move the module, and find kernels for where it is now."""
        super()._apply(fn, recurse)
        self._bind_again()
        return self

    def _bind_again(self) -> None:
        if self._binding != REFERENCE_ONLY:
            moved = next((buffer.device.type for buffer in self._buffers.values() if buffer is not None), None)
            self.bind(self._binding, moved or self._device_type)
