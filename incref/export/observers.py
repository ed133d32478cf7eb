"""What watches a captured graph: the observers of `incref.calibration`, as torchao calls them."""

import torch
from torch import Tensor
from torchao.quantization.pt2e.observer import ObserverBase

from incref.algorithms.weight import quantize_weight
from incref.calibration.ranges import RangeObserver
from incref.calibration.thresholds import scale_of_range
from incref.config.scheme import LayerScheme
from incref.errors import LayerError
from incref.formats import IntFormat

__all__ = ["InputObserver", "WeightObserver"]

_ADVICE = "call the prepared model on some batches before convert"


class _Observer(ObserverBase):  # type: ignore[misc]  # torchao is untyped
    """The fields that torchao reads of an observer."""

    def __init__(  # noqa: PLR0917  # torchao gives them by name
        self,
        scheme: LayerScheme,
        dtype: torch.dtype,
        qscheme: torch.qscheme | None = None,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_dynamic: bool = False,  # noqa: FBT001, FBT002  # as torchao calls it
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.scheme = scheme
        self.qscheme, self.quant_min, self.quant_max = qscheme, quant_min, quant_max
        self.ch_axis = 0


class InputObserver(_Observer):
    """Finds the range of an input that has unsigned codes: symmetric or signed ones are theirs less 128."""

    def __init__(self, scheme: LayerScheme, **fields: object) -> None:
        """Watch by the `input_range` of `scheme`; the other arguments are torchao's."""
        super().__init__(scheme, **fields)  # type: ignore[arg-type]  # torchao gives them by name
        assert scheme.input_range is not None
        self.observer = RangeObserver(scheme.input_range)

    def forward(self, x: Tensor) -> Tensor:
        """Observe x, and give it back."""
        self.observer.observe(x)
        return x

    def calculate_qparams(self, **_: object) -> tuple[Tensor, Tensor]:
        """Compute scale and zero point, of unsigned codes."""
        spec = self.scheme.activation
        assert spec is not None
        assert isinstance(spec.fmt, IntFormat)
        try:
            scale, zero_point = scale_of_range(self.observer.range(spec), spec)
        except ValueError as error:
            raise LayerError(f"the scale of an input of the captured graph is unknown: {error}; {_ADVICE}") from error
        zero = torch.zeros((), dtype=torch.int32) if zero_point is None else zero_point
        return scale, zero - spec.fmt.min_code


class WeightObserver(_Observer):
    """Finds the scales of a weight, one for each output channel; one for all is so many equal ones.

    The weight of a convolution is that of a linear layer of patches.
    """

    weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Keep the weight, and give it back."""
        self.weight = x.detach()
        return x

    def calculate_qparams(self, **_: object) -> tuple[Tensor, Tensor]:
        """Compute scales and zero points, [N]."""
        if self.weight is None:
            raise LayerError(f"the captured graph was prepared and never called; {_ADVICE}")
        scale = quantize_weight(self.weight.flatten(1), self.scheme).scale.flatten()
        scale = scale.expand(self.weight.shape[0]).contiguous()
        return scale, torch.zeros(len(scale), dtype=torch.int32)
