"""The rows of `incref.formats.FORMATS` as tables, one for each kind of format."""

from collections.abc import Iterator

from markdown_cells import code, dyadic, table

from incref.formats import FORMATS, BlockFormat, CodebookFormat, FloatFormat, Format, IntFormat, get_format, short_names

__all__ = [
    "ambiguous_names",
    "block_formats",
    "codebook_formats",
    "draft_formats",
    "float_formats",
    "int_formats",
    "readme_formats",
]


def float_formats() -> str:
    """Limits and special codes of every float format that a published document defines."""
    return _floats(is_experimental=False)


def draft_formats() -> str:
    """Limits and special codes of the float formats whose document is a draft."""
    return _floats(is_experimental=True)


def _floats(*, is_experimental: bool) -> str:
    rows = [f for f in FORMATS.values() if isinstance(f, FloatFormat) and f.is_experimental is is_experimental]
    header = [
        "name",
        "also",
        "sign, exponent, mantissa",
        "bias",
        "largest",
        "smallest normal",
        "smallest",
        "Inf",
        "NaN",
    ]
    return table([*header, "source"], map(_float_row, rows))


def _float_row(fmt: FloatFormat) -> list[str]:
    return [
        code(fmt.name),
        _also(fmt),
        f"{int(fmt.is_signed)}, {fmt.exponent_bits}, {fmt.mantissa_bits}",
        str(fmt.bias),
        dyadic(fmt.qmax),
        dyadic(fmt.smallest_normal),
        dyadic(fmt.smallest_positive),
        _hex(fmt.inf_code, fmt.bits),
        _hex(fmt.nan_code, fmt.bits),
        fmt.source,
    ]


def _also(fmt: Format) -> str:
    """Short names that mean `fmt` and nothing else."""
    return ", ".join(code(name) for name in short_names(fmt) if not _readings(name) and get_format(name) is fmt)


def _readings(name: str) -> list[str]:
    """Formats between which `name` does not decide; none if it has one reading."""
    try:
        get_format(name)
    except ValueError:
        return [fmt.name for fmt in FORMATS.values() if name in short_names(fmt)]
    return []


def _hex(value: int | None, bits: int) -> str:
    return "none" if value is None else code(f"0x{value:0{-(-bits // 4)}X}")


def ambiguous_names() -> str:
    """Short names that are refused, with their readings."""
    names = sorted({name for fmt in FORMATS.values() for name in short_names(fmt)})
    rows = [(name, readings) for name in names if (readings := _readings(name))]
    return table(["name", "readings"], [[code(name), ", ".join(map(code, readings))] for name, readings in rows])


def int_formats() -> str:
    """Ranges of every integer format."""
    rows = [fmt for fmt in FORMATS.values() if isinstance(fmt, IntFormat)]
    limits = [[dyadic(fmt.qmin), dyadic(fmt.qmax), dyadic(fmt.smallest_positive)] for fmt in rows]
    return table(
        ["name", "bits", "least", "greatest", "step", "source"],
        [[code(fmt.name), str(fmt.bits), *cells, fmt.source] for fmt, cells in zip(rows, limits, strict=True)],
    )


def block_formats() -> str:
    """Element, scale and block size of every block format."""
    header = [
        "name",
        "also",
        "element",
        "scale of a block",
        "block",
        "scale of the tensor",
        "bits per element",
        "source",
    ]
    return table(header, [_block_row(fmt) for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)])


def _block_row(fmt: BlockFormat) -> list[str]:
    return [
        code(fmt.name),
        _also(fmt),
        code(fmt.element.name),
        code(fmt.scale.name),
        str(fmt.block_size),
        "float32" if fmt.has_tensor_scale else "none",
        dyadic(fmt.bits_per_element),
        fmt.source,
    ]


def codebook_formats() -> str:
    """Values of every codebook format."""
    rows = [fmt for fmt in FORMATS.values() if isinstance(fmt, CodebookFormat)]
    values = [", ".join(f"{value:.9g}" for value in fmt.values) for fmt in rows]
    header = ["name", "values", "source"]
    return table(header, [[code(fmt.name), text, fmt.source] for fmt, text in zip(rows, values, strict=True)])


def readme_formats() -> str:
    """The formats of at most 8 bits that a published document defines, and how many there are beside them."""
    return table(["format", "bits per element", "largest value", "source"], _short_rows())


def _short_rows() -> Iterator[list[str]]:
    for fmt in FORMATS.values():
        if isinstance(fmt, BlockFormat):
            largest = f"{dyadic(fmt.element.qmax)} &times; scale"
            yield [code(fmt.name), dyadic(fmt.bits_per_element), largest, fmt.source]
        elif isinstance(fmt, FloatFormat) and fmt.bits <= 8 and not fmt.is_experimental:
            yield [code(fmt.name), str(fmt.bits), dyadic(fmt.qmax), fmt.source]
