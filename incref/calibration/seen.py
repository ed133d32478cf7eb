"""Whether a tensor is one that was seen before."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["SeenTensor"]


@dataclass(frozen=True, kw_only=True)
class SeenTensor:
    """A tensor as it was when it was seen; as long as it is kept, no other one gets its memory.

    Attributes:
        x: the tensor.
        version: how often it was written to; None where that is not counted, in inference mode.
    """

    x: Tensor
    version: int | None

    @classmethod
    def now(cls, x: Tensor) -> "SeenTensor":
        """See `x`."""
        return cls(x=x, version=_version(x))

    def is_still(self, other: Tensor) -> bool:
        """Whether `other` is known to be the same memory, read the same way, and not written to since."""
        return (
            self.version is not None
            and self.version == _version(other)
            and self.x.data_ptr() == other.data_ptr()
            and self.x.shape == other.shape
            and self.x.stride() == other.stride()
            and self.x.dtype is other.dtype
            and other.numel() > 0
        )


def _version(x: Tensor) -> int | None:
    return None if x.is_inference() else x._version  # noqa: SLF001  # no public way
