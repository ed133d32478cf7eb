"""From the answers of the directed probes to the model that explains them."""

from dataclasses import dataclass

from conformance.accumulators import measure
from conformance.accumulators.machine import Machine, Unshuffled
from incref.formats import Rounding
from incref.numerics.accumulate.models import Accumulator, Aligned, AlignTo, Carry, Promoted, Reordered, Sequential

__all__ = ["Findings", "infer", "model_of"]

_FLOAT32_BITS = 23


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What each probe said; None where it has no answer. See `measure` for the probes."""

    fraction_bits: int | None
    align_to: AlignTo | None = None
    term_rounding: Rounding | None = None
    zeros_align: bool | None = None
    group: int | None = None
    group_sizes: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    result_bits: int | None = None
    result_rounding: Rounding | None = None
    stretch: int | None = None
    is_ascending: bool | None = None


def infer(machine: Machine, *, length: int = 128, long: int = 1024) -> Findings:
    """Ask a machine everything.

    Args:
        machine: what is probed.
        length: K of the probe of groups.
        long: K of the probe of stretches.
    """
    # The first places need not be in one group; where they are not, a sum on the way hides bits.
    tried = [measure.fraction_bits(machine, last=last) for last in (2, 4, 8, 16)]
    if None in tried:
        return Findings(fraction_bits=None)
    bits = max(found for found in tried if found is not None)
    share = measure.groups(machine, bits, length)
    sizes = tuple(sorted({int(size) for size in share.sum(-1)}))
    found = measure.group_order(share)
    if found is None:
        return Findings(fraction_bits=bits, group_sizes=sizes)
    group, order = found
    plain = Unshuffled(machine=machine, order=order)
    seen = measure.result_bits(plain, bits, group)
    shown = _FLOAT32_BITS if seen is None else seen
    return Findings(
        fraction_bits=bits,
        align_to=measure.align_to(plain, bits),
        term_rounding=measure.term_rounding(plain, bits),
        zeros_align=measure.zeros_align(plain),
        group=group,
        group_sizes=sizes,
        order=order,
        result_bits=seen,
        result_rounding=measure.result_rounding(plain, bits, shown, group),
        stretch=measure.stretch(plain, bits, shown, group, long),
        is_ascending=measure.is_ascending(plain, bits, shown, group),
    )


def model_of(found: Findings) -> Accumulator | None:
    """Put findings together; None where they contradict every model there is.

    A sum whose bits never limit what is seen is taken to have those of float32. A stretch of one group is an addition
    in float32 after every group.
    """
    if found.fraction_bits == _FLOAT32_BITS and found.group == 2:
        return Sequential()
    if found.fraction_bits is None or None in (found.align_to, found.term_rounding, found.group):
        return None
    if found.zeros_align or not found.is_ascending:
        return None
    assert found.align_to is not None
    assert found.term_rounding is not None
    assert found.group is not None
    inner = Aligned(
        group=found.group,
        fraction_bits=found.fraction_bits,
        result_bits=_FLOAT32_BITS if found.result_bits is None else found.result_bits,
        term_rounding=found.term_rounding,
        result_rounding=found.result_rounding or found.term_rounding,
        align_to=found.align_to,
        carry=Carry.ADDED if found.stretch == found.group else Carry.ALIGNED,
    )
    is_promoted = found.stretch is not None and found.stretch != found.group
    if found.order != tuple(range(len(found.order))):
        return None if is_promoted else Reordered(inner=inner, order=found.order)
    if not is_promoted:
        return inner
    assert found.stretch is not None
    return Promoted(inner=inner, every=found.stretch)
