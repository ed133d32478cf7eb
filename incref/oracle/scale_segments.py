"""Scale rules as segments: from which amax pattern on an E8M0 code is the answer.

Nothing here calls `shared_exponent`: each rule is restated as the least amax that has an exponent.
"""

from bisect import bisect_left, bisect_right
from fractions import Fraction

from incref.formats import ElementFormat, FloatFormat, ScaleRule
from incref.oracle.ladder import greatest, ladder
from incref.oracle.powers import floor_log2, power_of_two
from incref.oracle.scales import GREATEST_EXPONENT, LEAST_EXPONENT, even_threshold
from incref.oracle.segments import Segment, merge
from incref.oracle.specials import greatest_number

__all__ = ["scale_segments"]


def scale_segments(source: FloatFormat, fmt: ElementFormat, rule: ScaleRule) -> tuple[Segment, ...]:
    """List from which non-negative pattern of `source` on each E8M0 code is the scale of a block with that amax.

    Args:
        source: an IEEE format, such as float32.
        fmt: format of the elements.
        rule: one that gives powers of two.

    Returns:
        Segments in ascending order. Patterns of Inf and NaN have code 255, the NaN of E8M0 (`BlockRule.NAN_BLOCK`).
    """
    rungs = ladder(source, is_negative=False)
    finite = len(rungs.magnitudes) - 1
    unit = power_of_two(rungs.exponent)
    segments = [Segment(first=0, code=0)]
    for exponent in range(LEAST_EXPONENT + 1, GREATEST_EXPONENT + 1):
        least, is_included = _least_amax(exponent, fmt, rule)
        steps = least / unit
        # Rungs are whole numbers: a threshold between two of them lets in the same ones, whether included or not.
        if is_included and steps.denominator == 1:
            first = bisect_left(rungs.magnitudes, int(steps), 0, finite)
        else:
            first = bisect_right(rungs.magnitudes, int(steps), 0, finite)
        segments.append(Segment(first=first, code=exponent - LEAST_EXPONENT))
    segments.append(Segment(first=greatest_number(source) + 1, code=255))
    return merge(segments)


def _least_amax(exponent: int, fmt: ElementFormat, rule: ScaleRule) -> tuple[Fraction, bool]:
    """Bound of the amax whose scale is at least `2**exponent`, and whether the bound itself is one."""
    most = greatest(fmt)
    emax = floor_log2(most)
    match rule:
        case ScaleRule.FLOOR:
            # floor(log2(a)) >= k  <=>  a >= 2**k
            return power_of_two(exponent + emax), True
        case ScaleRule.CEIL:
            # ceil(log2(a)) >= k  <=>  a > 2**(k - 1)
            return power_of_two(exponent + emax - 1), False
        case ScaleRule.EVEN:
            # The significands from the threshold on count for the next power of two.
            return power_of_two(exponent + emax - 1) * even_threshold(fmt), True
        case ScaleRule.RCEIL:
            # ceil(log2(a / most)) >= k  <=>  a > most * 2**(k - 1)
            return most * power_of_two(exponent - 1), False
        case _:
            raise ValueError(f"{rule} does not give powers of two; FLOOR, CEIL, EVEN and RCEIL do")
