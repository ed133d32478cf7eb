"""`QuantKVCache`: keys or values that are kept as codes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from incref.config.scheme import InputScheme
from incref.modules.input import round_elementwise
from incref.modules.quant_inputs import QuantInputs
from incref.modules.stored_tokens import StoredTokens
from incref.nn.kv_cache import KVCache
from incref.qtensor.straight_through import straight_through

__all__ = ["QuantKVCache"]


class QuantKVCache(QuantInputs):
    """Keeps keys or values [..., L, D] as codes: by one static scale, or with scales of every token, along D.

    What is kept is no part of a state dict. Gradients go straight through to the tokens that are given, and not to
    those of earlier calls. For arguments see `QuantInputs`.

    Attributes:
        kept: codes and scales.
    """

    arguments = KVCache.arguments

    def __init__(self, scheme: InputScheme, scales: Mapping[str, Tensor] | None = None) -> None:
        """Start with nothing.

        Raises:
            ValueError: for a scheme by which what comes later would change the codes of what is there.
        """
        super().__init__(scheme, scales)
        self.reset()

    def forward(self, x: Tensor) -> Tensor:
        """Keep x [..., L, D] after what is kept already, and give all of it, in the dtype of x."""
        if self.scheme.elementwise is not None:
            x = round_elementwise(x, self.scheme.elementwise)
        self.kept.append(x, by=self._quantizers["x"])
        kept = self.kept.read(x.dtype, by=self._quantizers["x"])
        if not x.requires_grad:
            return kept
        before, given = kept.tensor_split([kept.shape[-2] - x.shape[-2]], dim=-2)
        return torch.cat([before, straight_through(x, given)], dim=-2)

    def reset(self) -> None:
        """Forget everything."""
        self.kept = StoredTokens(self.scheme.activation, self.scheme.input_scale, self._scale("x"))
