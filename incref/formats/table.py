"""The formats, one row each, and how they are looked up by name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from incref.formats.spec import BlockFormat, CodebookFormat, FloatFormat, Format, IntFormat, Specials

__all__ = ["E8M0", "FORMATS", "get_format", "short_names"]

_OFP8 = "OCP OFP8 1.0"
_MX = "OCP MX 1.0"
_IEEE = "IEEE 754-2019, 3.6"
_LLVM_FNUZ = "LLVM APFloat Float8*FNUZ; arXiv 2206.02915"
_LLVM_IEEE = "LLVM APFloat, pull requests 97179 and 99698"
_P3109 = "IEEE P3109 interim report 4.0 (draft)"
_TWOS = "two's complement"
_UNSIGNED = "unsigned binary"


def _float(
    name: str, exponent_bits: int, mantissa_bits: int, bias: int, specials: Specials, source: str
) -> FloatFormat:
    return FloatFormat(
        name=name, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits, bias=bias, specials=specials, source=source
    )


def _p3109(precision: int, *, is_signed: bool, is_extended: bool) -> FloatFormat:
    exponent_bits = 8 - precision + (not is_signed)
    # Without Inf the layout is that of FNUZ (NaN in place of -0) or, unsigned, that of FN (NaN as the last code).
    finite = Specials.FNUZ if is_signed else Specials.FN
    return FloatFormat(
        name=f"binary8p{precision}{'s' if is_signed else 'u'}{'e' if is_extended else 'f'}",
        exponent_bits=exponent_bits,
        mantissa_bits=precision - 1,
        bias=1 << (exponent_bits - 1),
        specials=Specials.EXTENDED if is_extended else finite,
        source=_P3109,
        is_signed=is_signed,
        is_experimental=True,
    )


_E4M3FN = _float("float8_e4m3fn", 4, 3, 7, Specials.FN, _OFP8)
_E5M2 = _float("float8_e5m2", 5, 2, 15, Specials.IEEE, _OFP8)
_E2M3 = _float("float6_e2m3fn", 2, 3, 1, Specials.FINITE, f"{_MX}, 5.3.2")
_E3M2 = _float("float6_e3m2fn", 3, 2, 3, Specials.FINITE, f"{_MX}, 5.3.2")
_E2M1 = _float("float4_e2m1fn", 2, 1, 1, Specials.FINITE, f"{_MX}, 5.3.3")
E8M0 = FloatFormat(
    name="float8_e8m0fnu",
    exponent_bits=8,
    mantissa_bits=0,
    bias=127,
    specials=Specials.FN,
    source=f"{_MX}, 5.4.1",
    is_signed=False,
    has_zero=False,
)
_MXINT8_ELEMENT = IntFormat(name="mxint8_element", bits=8, is_signed=True, fraction_bits=6, source=f"{_MX}, 5.3.4")


def _mx(name: str, element: FloatFormat | IntFormat) -> BlockFormat:
    return BlockFormat(name=name, element=element, scale=E8M0, block_size=32, source=f"{_MX}, 5.2")


# Quantiles of the normal distribution, scaled to [-1, 1], with an exact zero; every value is a binary32.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

_ROWS: tuple[Format, ...] = (
    _E4M3FN,
    _E5M2,
    _float("float8_e4m3fnuz", 4, 3, 8, Specials.FNUZ, _LLVM_FNUZ),
    _float("float8_e5m2fnuz", 5, 2, 16, Specials.FNUZ, _LLVM_FNUZ),
    _float("float8_e4m3", 4, 3, 7, Specials.IEEE, _LLVM_IEEE),
    _float("float8_e4m3b11fnuz", 4, 3, 11, Specials.FNUZ, "LLVM APFloat Float8E4M3B11FNUZ"),
    _float("float8_e3m4", 3, 4, 3, Specials.IEEE, _LLVM_IEEE),
    E8M0,
    _E2M3,
    _E3M2,
    _E2M1,
    _float("float16", 5, 10, 15, Specials.IEEE, f"{_IEEE}, binary16"),
    _float("bfloat16", 8, 7, 127, Specials.IEEE, "Intel BFLOAT16 numerics definition 1.0"),
    _float("tf32", 8, 10, 127, Specials.IEEE, "NVIDIA A100 architecture white paper"),
    _float("float32", 8, 23, 127, Specials.IEEE, f"{_IEEE}, binary32"),
    _float("float64", 11, 52, 1023, Specials.IEEE, f"{_IEEE}, binary64"),
    *(IntFormat(name=f"int{n}", bits=n, is_signed=True, source=_TWOS) for n in (2, 3, 4, 5, 6, 7, 8, 16)),
    *(IntFormat(name=f"uint{n}", bits=n, is_signed=False, source=_UNSIGNED) for n in (1, 2, 3, 4, 5, 6, 7, 8)),
    _MXINT8_ELEMENT,
    _mx("mxfp8_e4m3", _E4M3FN),
    _mx("mxfp8_e5m2", _E5M2),
    _mx("mxfp6_e2m3", _E2M3),
    _mx("mxfp6_e3m2", _E3M2),
    _mx("mxfp4", _E2M1),
    _mx("mxint8", _MXINT8_ELEMENT),
    BlockFormat(
        name="nvfp4",
        element=_E2M1,
        scale=_E4M3FN,
        block_size=16,
        has_tensor_scale=True,
        source="NVIDIA, Pretraining LLMs with NVFP4, arXiv 2509.25149",
    ),
    CodebookFormat(name="nf4", values=_NF4, source="QLoRA, arXiv 2305.14314, appendix E", is_experimental=True),
    *(
        _p3109(precision, is_signed=is_signed, is_extended=is_extended)
        for is_signed in (True, False)
        for is_extended in (True, False)
        for precision in range(1, 8)
    ),
)

FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in _ROWS})
"""Every format by its full name."""


def short_names(fmt: Format) -> tuple[str, ...]:
    """Other spellings of the name of `fmt`; one may belong to several formats.

    >>> short_names(FORMATS["float4_e2m1fn"])
    ('e2m1', 'e2m1fn', 'float4_e2m1', 'fp4_e2m1', 'fp4_e2m1fn')
    """
    names: set[str] = set()
    if isinstance(fmt, FloatFormat):
        if fmt.name in _STANDARD_SHORT:
            names.add(_STANDARD_SHORT[fmt.name])
        prefix, _, layout = fmt.name.partition("_")
        if layout:
            for suffix in ("", "fnu", "fn"):
                stem = layout.removesuffix(suffix) if suffix else layout
                names |= {stem, f"{prefix.replace('float', 'fp')}_{stem}", f"{prefix}_{stem}"}
    elif isinstance(fmt, BlockFormat):
        family, _, _ = fmt.name.partition("_")
        layout = fmt.element.name.partition("_")[2].removesuffix("fn")
        names |= {family} | ({f"{family}_{layout}"} if isinstance(fmt.element, FloatFormat) else set())
    return tuple(sorted(names - {fmt.name}))


_STANDARD_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}


def get_format(name: str | Format) -> Format:
    """Look a format up by its full name, or by a short one that has one reading; a format is returned as it is.

    >>> get_format("e2m1").name
    'float4_e2m1fn'

    Raises:
        ValueError: if no format, or more than one, goes by that name; the message lists the readings or the nearest
            names.
        TypeError: if `name` is neither a string nor a format.
    """
    if isinstance(name, FloatFormat | IntFormat | CodebookFormat | BlockFormat):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a format is a name or a row of incref.formats.FORMATS, got {type(name).__name__}")
    wanted = name.lower()
    if wanted in FORMATS:
        return FORMATS[wanted]
    readings = _SHORT.get(wanted, ())
    if len(readings) == 1:
        return FORMATS[readings[0]]
    if readings:
        raise ValueError(f"{name!r} has {len(readings)} readings: {', '.join(readings)}; name one of them")
    near = difflib.get_close_matches(wanted, [*FORMATS, *_SHORT], n=5, cutoff=0.4)
    raise ValueError(f"no format is called {name!r}; nearest: {', '.join(near) if near else ', '.join(FORMATS)}")


def _index_short_names() -> dict[str, tuple[str, ...]]:
    index: dict[str, tuple[str, ...]] = {}
    for fmt in FORMATS.values():
        for short in short_names(fmt):
            index[short] = (*index.get(short, ()), fmt.name)
    # A full name that is also a short one of another format (float8_e4m3) keeps its own meaning.
    return {short: names for short, names in index.items() if short not in FORMATS}


_SHORT = _index_short_names()
