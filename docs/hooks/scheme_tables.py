"""The named schemes of `incref.config.schemes.SCHEMES` as a table."""

from markdown_cells import code, table

from incref.config.scheme import LayerScheme
from incref.config.schemes import SCHEMES
from incref.formats import BlockFormat
from incref.qtensor.spec import QuantSpec

__all__ = ["schemes"]


def schemes() -> str:
    """Weight and input of every scheme."""
    rows = [[code(name), _words(scheme.weight), _input_words(scheme)] for name, scheme in SCHEMES.items()]
    return table(["scheme", "weight", "input"], rows)


def _input_words(scheme: LayerScheme) -> str:
    """Likewise of inputs; whether scales are static, and whether attention is quantized, too."""
    words = _words(scheme.activation)
    if scheme.is_static:
        words += ", static"
    return words if scheme.inputs is None else f"{words}; also the factors in attention"


def _words(spec: QuantSpec | None) -> str:
    """Format, blocks and zero points of `spec`."""
    if spec is None:
        return "as it is"
    if isinstance(spec.fmt, BlockFormat):
        return f"{code(spec.fmt.name)}, blocks of {spec.fmt.block_size}"
    extents = ", ".join("all" if extent == -1 else str(extent) for extent in spec.granularity.block)
    zero_point = "" if spec.symmetric else ", with zero points"
    return f"{code(spec.fmt.name)}, a scale for ({extents}){zero_point}"
