"""`Conv1D`: the linear layer of GPT-2 and its relatives in transformers."""

from abc import ABC

from torch import nn

__all__ = ["Conv1D"]

_NAME = "transformers.pytorch_utils.Conv1D"


class Conv1D(nn.Module, ABC):
    """Any class of that name, and those derived from it; transformers need not be there.

    Attributes:
        weight: [K, N], the transpose of that of `nn.Linear`.
        bias: [N].
    """

    weight: nn.Parameter
    bias: nn.Parameter

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        """Whether a class is `Conv1D` of transformers or is derived from it."""
        return any(f"{base.__module__}.{base.__qualname__}" == _NAME for base in other.__mro__)
