"""The functions of libdevice that kernels apply, one a name."""

import triton
from triton.language.extra import libdevice

__all__ = [
    "abs_",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "clz",
    "copysign",
    "cos",
    "cosh",
    "cyl_bessel_i0",
    "cyl_bessel_i1",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "finitef",
    "floor",
    "fmod",
    "hypot",
    "isinf",
    "isnan",
    "j0",
    "j1",
    "lgamma",
    "log",
    "log1p",
    "log2",
    "log10",
    "nearbyint",
    "popc",
    "pow_",
    "rint",
    "round_",
    "rsqrt",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "y0",
    "y1",
]


@triton.jit
def floor(x):
    return libdevice.floor(x)


@triton.jit
def ceil(x):
    return libdevice.ceil(x)


@triton.jit
def trunc(x):
    return libdevice.trunc(x)


@triton.jit
def rint(x):
    return libdevice.rint(x)


@triton.jit
def nearbyint(x):
    return libdevice.nearbyint(x)


@triton.jit
def abs_(x):
    return libdevice.abs(x)


@triton.jit
def sqrt(x):
    return libdevice.sqrt(x)


@triton.jit
def rsqrt(x):
    return libdevice.rsqrt(x)


@triton.jit
def exp2(x):
    return libdevice.exp2(x)


@triton.jit
def exp(x):
    return libdevice.exp(x)


@triton.jit
def sin(x):
    return libdevice.sin(x)


@triton.jit
def cos(x):
    return libdevice.cos(x)


@triton.jit
def tan(x):
    return libdevice.tan(x)


@triton.jit
def sinh(x):
    return libdevice.sinh(x)


@triton.jit
def cosh(x):
    return libdevice.cosh(x)


@triton.jit
def tanh(x):
    return libdevice.tanh(x)


@triton.jit
def asin(x):
    return libdevice.asin(x)


@triton.jit
def acos(x):
    return libdevice.acos(x)


@triton.jit
def atan(x):
    return libdevice.atan(x)


@triton.jit
def asinh(x):
    return libdevice.asinh(x)


@triton.jit
def acosh(x):
    return libdevice.acosh(x)


@triton.jit
def atanh(x):
    return libdevice.atanh(x)


@triton.jit
def log(x):
    return libdevice.log(x)


@triton.jit
def log2(x):
    return libdevice.log2(x)


@triton.jit
def log10(x):
    return libdevice.log10(x)


@triton.jit
def log1p(x):
    return libdevice.log1p(x)


@triton.jit
def expm1(x):
    return libdevice.expm1(x)


@triton.jit
def erf(x):
    return libdevice.erf(x)


@triton.jit
def erfc(x):
    return libdevice.erfc(x)


@triton.jit
def lgamma(x):
    return libdevice.lgamma(x)


@triton.jit
def round_(x):
    return libdevice.round(x)


@triton.jit
def isnan(x):
    return libdevice.isnan(x)


@triton.jit
def isinf(x):
    return libdevice.isinf(x)


@triton.jit
def signbit(x):
    return libdevice.signbit(x)


@triton.jit
def finitef(x):
    return libdevice.finitef(x)


@triton.jit
def popc(x):
    return libdevice.popc(x)


@triton.jit
def clz(x):
    return libdevice.clz(x)


@triton.jit
def j0(x):
    return libdevice.j0(x)


@triton.jit
def j1(x):
    return libdevice.j1(x)


@triton.jit
def y0(x):
    return libdevice.y0(x)


@triton.jit
def y1(x):
    return libdevice.y1(x)


@triton.jit
def cyl_bessel_i0(x):
    return libdevice.cyl_bessel_i0(x)


@triton.jit
def cyl_bessel_i1(x):
    return libdevice.cyl_bessel_i1(x)


@triton.jit
def erfinv(x):
    return libdevice.erfinv(x)


@triton.jit
def erfcx(x):
    return libdevice.erfcx(x)


@triton.jit
def atan2(x, y):
    return libdevice.atan2(x, y)


@triton.jit
def pow_(x, y):
    return libdevice.pow(x, y)


@triton.jit
def hypot(x, y):
    return libdevice.hypot(x, y)


@triton.jit
def fmod(x, y):
    return libdevice.fmod(x, y)


@triton.jit
def copysign(x, y):
    return libdevice.copysign(x, y)
