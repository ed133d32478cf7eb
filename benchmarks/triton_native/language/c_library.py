"""How far a function of glibc on x86-64 may be from the exact result.

Its test suite compares with the result that is rounded correctly: the error is `abs(given - expected) / ulp(expected)`
(math/libm-test-support.c), and of each function the largest one that its own tests saw is recorded, rounded up to an
integer (sysdeps/x86_64/fpu/libm-test-ulps; up to glibc 2.41 the manual prints it as "Known Maximum Errors in Math
Functions"). The correctly rounded result is up to half a unit from the exact one, so from the exact one it is that
number and a half: glibc 2.36's tanf, whose number is 1, is 1.28 units off at 0x1.9220bap+0.

This is what was seen, no proof: for double nobody can try all.
"""

import torch

__all__ = ["largest_error"]

# For float and double the largest number of glibc 2.33 to 2.41; 0 where none is recorded.
_SEEN = {
    "acos": (1, 1), "acosh": (2, 2), "asin": (1, 1), "asinh": (2, 2), "atan": (1, 1), "atan2": (2, 0), "atanh": (2, 2),
    "cbrt": (1, 4), "cos": (1, 1), "cosh": (2, 2), "erf": (1, 1), "erfc": (3, 5), "exp": (1, 1), "exp2": (1, 1),
    "exp10": (1, 2), "expm1": (1, 1), "hypot": (1, 1), "j0": (9, 3), "j1": (9, 4), "lgamma": (7, 4), "log": (1, 1),
    "log10": (2, 2), "log1p": (1, 1), "log2": (1, 2), "pow": (1, 1), "sin": (1, 1), "sinh": (2, 2), "sqrt": (0, 0),
    "tan": (1, 0), "tanh": (2, 2), "tgamma": (8, 9), "y0": (9, 3), "y1": (9, 6),
}  # fmt: skip


def largest_error(name: str, dtype: torch.dtype) -> float:
    """Units in the last place between the function `name` of float32 or float64 and the exact result.

    >>> largest_error("sinh", torch.float32)
    2.5
    """
    return _SEEN[name][dtype == torch.float64] + 0.5
