"""Where other libraries differ from the reference, and why.

A row that no longer shows is an error in the tests, and so is a difference that no row names.
"""

from dataclasses import dataclass

__all__ = ["KNOWN_DIFFERENCES", "KnownDifference"]


@dataclass(frozen=True, kw_only=True)
class KnownDifference:
    """A class of inputs for which a witness gives other codes.

    Attributes:
        witness: the library.
        formats: full names.
        inputs: a class of `conformance.witnesses.INPUTS`.
        theirs: what it gives.
        cause: why, and what is right here.
    """

    witness: str
    formats: tuple[str, ...]
    inputs: str
    theirs: str
    cause: str


_WITHOUT_NAN = ("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")

KNOWN_DIFFERENCES: tuple[KnownDifference, ...] = (
    KnownDifference(
        witness="ml_dtypes",
        formats=_WITHOUT_NAN,
        inputs="nan",
        theirs="a zero of the other sign",
        cause="these formats have no NaN and the standard leaves its conversion open; here `NanRule` decides",
    ),
    KnownDifference(
        witness="ml_dtypes",
        formats=("float8_e8m0fnu",),
        inputs="tie",
        theirs="the greater power of two",
        cause="arithmetic ties go up there; here a tie goes to the even code, as IEEE 754 and P3109 have it",
    ),
    KnownDifference(
        witness="ml_dtypes",
        formats=("float8_e8m0fnu",),
        inputs="tiny",
        theirs="2**-127",
        cause="what is nearer to zero than to 2**-127 is outside the range here, and NONSATURATE makes it NaN",
    ),
    KnownDifference(
        witness="ml_dtypes",
        formats=("float8_e8m0fnu",),
        inputs="above least",
        theirs="2**-126",
        cause="a defect there: between 2**-127 and 1.5 * 2**-127, subnormal float32 values, the nearest is 2**-127",
    ),
    KnownDifference(
        witness="torch",
        formats=("float8_e8m0fnu",),
        inputs="above least",
        theirs="2**-126",
        cause="a defect there: between 2**-127 and 1.5 * 2**-127, subnormal float32 values, the nearest is 2**-127",
    ),
    KnownDifference(
        witness="torch",
        formats=("float8_e8m0fnu",),
        inputs="tiny",
        theirs="2**-127",
        cause="what is nearer to zero than to 2**-127 is outside the range here, and NONSATURATE makes it NaN",
    ),
    KnownDifference(
        witness="torch",
        formats=("float8_e8m0fnu",),
        inputs="tie",
        theirs="the greater power of two",
        cause="arithmetic ties go up there; here a tie goes to the even code",
    ),
    KnownDifference(
        witness="torch",
        formats=("float8_e8m0fnu",),
        inputs="negative",
        theirs="the power of two of the magnitude",
        cause="the sign bit is dropped; here a negative number is below the range of a format without sign",
    ),
    KnownDifference(
        witness="torch",
        formats=("float8_e8m0fnu",),
        inputs="zero",
        theirs="2**-127",
        cause="saturation; here a zero is outside the range of a format without zero, and NONSATURATE makes it NaN",
    ),
)
"""Every known difference."""
