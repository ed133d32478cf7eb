"""From the answers of the directed probes to the model that explains them."""

from dataclasses import dataclass

from conformance.accumulators import measure
from conformance.accumulators.machine import Machine
from incref.formats import Rounding
from incref.numerics.accumulate.models import Accumulator, Aligned, AlignTo, Carry, Promoted, Sequential

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
    bits = measure.fraction_bits(machine)
    if bits is None:
        return Findings(fraction_bits=None)
    share = measure.groups(machine, bits, length)
    group = measure.group_length(share)
    found = Findings(
        fraction_bits=bits,
        align_to=measure.align_to(machine, bits),
        term_rounding=measure.term_rounding(machine, bits),
        zeros_align=measure.zeros_align(machine),
        group=group,
        group_sizes=tuple(sorted({int(size) for size in share.sum(-1)})),
    )
    if group is None:
        return found
    seen = measure.result_bits(machine, bits, group)
    shown = _FLOAT32_BITS if seen is None else seen
    facts = {
        **vars(found),
        "result_bits": seen,
        "result_rounding": measure.result_rounding(machine, bits, shown, group),
        "stretch": measure.stretch(machine, bits, shown, group, long),
        "is_ascending": measure.is_ascending(machine, bits, shown, group),
    }
    return Findings(**facts)


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
    if found.stretch is None or found.stretch == found.group:
        return inner
    return Promoted(inner=inner, every=found.stretch)
