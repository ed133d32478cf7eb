"""Which values a lane has to remember while it waits."""

from collections.abc import Iterable, Mapping, Sequence

from incref_kernels.triton.native.host.segments import Segment
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.values import Local, walk

__all__ = ["defined", "names_in", "reachable", "remembered", "successors"]


def names_in(inst: Instruction) -> list[str]:
    """The values that `inst` reads, as the host names them."""
    return [str(part) for operand in inst.operands for part in walk(operand.value) if isinstance(part, Local)]


def defined(inst: Instruction) -> str | None:
    """The value that `inst` makes, as the host names it."""
    return inst.result


def successors(segment: Segment) -> list[str]:
    """The segments that may come next without a stop."""
    if segment.ends is not None:
        return []
    return [label[1:] for label in segment.instructions[-1].labels]


def reachable(segments: Mapping[str, Segment], start: str) -> list[str]:
    """The segments that a lane may run from `start` on until it stops, in the order of the text."""
    seen, todo = {start}, [start]
    while todo:
        for label in successors(segments[todo.pop()]):
            if label not in seen:
                seen.add(label)
                todo.append(label)
    return [label for label in segments if label in seen]


def remembered(segments: Mapping[str, Segment], known: Iterable[str]) -> set[str]:
    """The values that are read after a stop that comes after their making, or that a meeting reads.

    Args:
        segments: the lane's code.
        known: names that every segment knows anyway: parameters and the prelude's addresses.
    """
    alive = _alive_at_start(segments, set(known))
    found: set[str] = set()
    for segment in segments.values():
        if segment.ends is not None:
            found |= alive[segment.ends.resumes] | segment.ends.uses
            found |= {name for name, _ in segment.ends.results}
    return found - set(known)


def _alive_at_start(segments: Mapping[str, Segment], known: set[str]) -> dict[str, set[str]]:
    reads = {label: _reads(segment) - known for label, segment in segments.items()}
    makes = {label: _makes(segment.instructions) for label, segment in segments.items()}
    at_edges = _phi_reads(segments, known)
    alive = {label: set(read) for label, read in reads.items()}
    changed = True
    while changed:
        changed = False
        for label in reversed(list(segments)):
            segment = segments[label]
            after: set[str] = set(at_edges.get(label, set()))
            for following in successors(segment):
                after |= alive[following]
            if segment.ends is not None:
                made = {name for name, _ in segment.ends.results}
                after |= alive[segment.ends.resumes] - made | segment.ends.uses
            new = reads[label] | (after - makes[label])
            if new - alive[label]:
                alive[label] |= new
                changed = True
    return alive


def _makes(instructions: Sequence[Instruction]) -> set[str]:
    return {name for inst in instructions if (name := defined(inst)) is not None}


def _reads(segment: Segment) -> set[str]:
    """What the segment reads of earlier ones; the operands of phis belong to the segments that they come from."""
    made: set[str] = set()
    read: set[str] = set()
    for inst in segment.instructions:
        if inst.opcode != "phi":
            read |= set(names_in(inst)) - made
        if (name := defined(inst)) is not None:
            made.add(name)
    return read


def _phi_reads(segments: Mapping[str, Segment], known: set[str]) -> dict[str, set[str]]:
    """For each segment the values that phis take from it."""
    found: dict[str, set[str]] = {}
    for segment in segments.values():
        for inst in segment.instructions:
            if inst.opcode == "phi":
                for operand, label in zip(inst.operands, inst.labels, strict=True):
                    if isinstance(operand.value, Local) and str(operand.value) not in known:
                        found.setdefault(label[1:], set()).add(str(operand.value))
    return found
