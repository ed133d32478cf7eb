"""From segments to functions: each stretch between two stops becomes a loop over the 64 lanes of a wave.

What a lane remembers over a stop lies in the wave's frame, each value as an array by lane. A lane that reads such a
value in another segment than the one that makes it loads it there; every making of it is stored at once. So the array
always holds what the lane last made, which is what a reader means, and no phi has to be built for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from incref_kernels.triton.native.host.liveness import defined, names_in, reachable, remembered, successors
from incref_kernels.triton.native.host.render import render
from incref_kernels.triton.native.host.segments import LaneBuilder, Meet, Segment, stride
from incref_kernels.triton.native.host.waves import APART, DONE, declared, masked_wave, state_of, together
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import Type
from incref_kernels.triton.native.llir.values import Local, Typed, with_locals

__all__ = ["Lane", "Regions", "wave_functions"]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A lane's code and what it knows from the start.

    Attributes:
        builder: the code.
        parameters: the parameters of the kernel, as declared on the host.
        types: the type of every value.
    """

    builder: LaneBuilder
    parameters: tuple[str, ...]
    types: Mapping[str, Type]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The functions of a wave.

    Attributes:
        text: their definitions; `@wave` runs a wave from one stop of all waves to the next.
        frame_bytes: what a wave remembers.
    """

    text: str
    frame_bytes: int


_KNOWN = ("%ctx", "%lds", "%tid", "%lane", "%pid_x", "%pid_y", "%pid_z", "%frame", "%args")


def wave_functions(lane: Lane) -> Regions:
    """Write the functions that run a wave of the kernel."""
    builder = lane.builder
    segments = {segment.label: segment for segment in builder.segments}
    known = [*_KNOWN, *(parameter.split()[-1] for parameter in lane.parameters), *map(_made, builder.prelude)]
    homes = {name: builder.reserve(64 * stride(lane.types[name])) for name in sorted(remembered(segments, known))}
    meets = {segment.ends.resumes: segment.ends for segment in builder.segments if segment.ends is not None}
    starts = [builder.segments[0].label, *meets]
    numbers = [state_of(meets[start]) if start in meets else 0 for start in starts]
    writers = [_Region(lane, segments, homes, *pair) for pair in zip(starts, numbers, strict=True)]
    parts = [writer.write() for writer in writers]
    if builder.mask:
        parts.append(masked_wave(lane.parameters, builder.mask, starts, meets, homes))
    else:
        parts.append(_wave(lane, writers, meets, homes))
    text = "\n".join(parts)
    return Regions(text=text, frame_bytes=builder.frame_bytes)


def _made(inst: Instruction) -> str:
    name = defined(inst)
    assert name is not None
    return name


class _Region:
    """Writes the loop over the lanes for the stretch that begins at one segment."""

    def __init__(
        self, lane: Lane, segments: Mapping[str, Segment], homes: Mapping[str, int], start: str, state: int
    ) -> None:
        self.lane, self.homes, self.start, self.state = lane, homes, start, state
        # What the ends of the stretch branch to.
        self.latch = "left" if lane.builder.mask else "latch"
        self.segments = {label: segments[label] for label in reachable(segments, start)}
        self.made = {
            label: {name for inst in segment.instructions if (name := defined(inst)) is not None}
            for label, segment in self.segments.items()
        }
        self.lines: list[str] = []
        self.loaded: dict[tuple[str, str], str] = {}
        # Where the lanes may stop: the number of the state that follows, by the segment that stops.
        self.exits: dict[str, int] = {}

    def write(self) -> str:
        for segment in self.segments.values():
            self._segment(segment)
        body = "\n".join(self.lines)
        prelude = "\n".join(f"  {render(inst)}" for inst in self.lane.builder.prelude)
        states, mask = self.states(), self.lane.builder.mask
        template = _MASKED if mask else _ONE_EXIT if len(states) == 1 else _MANY_EXITS
        return template.format(
            name=self.start,
            parameters=declared(self.lane.parameters),
            prelude=prelude,
            start=self.start,
            body=body,
            state=states[0] if states else DONE,
            exits=", ".join(f"[{state}, %{label}]" for label, state in self.exits.items()),
            apart=APART,
            states=mask.states if mask else 0,
            own=self.state,
        )

    def states(self) -> list[int]:
        """The states that may follow."""
        return sorted(set(self.exits.values()))

    def _segment(self, segment: Segment) -> None:
        self.lines.append(f"{segment.label}:")
        phis = [inst for inst in segment.instructions if inst.opcode == "phi"]
        rest = segment.instructions[len(phis) :]
        for phi in phis:
            self.lines.append(f"  {self._phi(segment, phi)}")
        made = {_made(phi) for phi in phis}
        for phi in phis:
            self._remember(phi)
        for inst in rest[:-1] if segment.ends is None else rest:
            self._instruction(segment, inst, made)
        self._load_for_phis(segment, made)
        if segment.ends is not None:
            self.exits[segment.label] = state_of(segment.ends)
            self.lines.append(f"  br label %{self.latch}")
        elif rest[-1].opcode in {"ret", "unreachable"}:
            self.exits[segment.label] = DONE
            self.lines.append(f"  br label %{self.latch}")
        else:
            self._instruction(segment, rest[-1], made)

    def _instruction(self, segment: Segment, inst: Instruction, made: set[str]) -> None:
        inst = self._with_loads(segment, inst, made)
        self.lines.append(f"  {render(inst)}")
        if (name := defined(inst)) is not None:
            made.add(name)
            self._remember(inst)

    def _remember(self, inst: Instruction) -> None:
        name = _made(inst)
        if name in self.homes:
            address = self._home(name, f"{name}.home")
            self.lines.append(f"  store {inst.type} {name}, ptr {address}, align 1")

    def _home(self, name: str, address: str) -> str:
        distance = stride(self.lane.types[name])
        self.lines.append(f"  {address}.at = mul i32 %lane, {distance}")
        self.lines.append(f"  {address}.start = getelementptr i8, ptr %frame, i64 {self.homes[name]}")
        self.lines.append(f"  {address} = getelementptr i8, ptr {address}.start, i32 {address}.at")
        return address

    def _with_loads(self, segment: Segment, inst: Instruction, made: set[str]) -> Instruction:
        wanted = {name for name in names_in(inst) if name in self.homes and name not in made}
        if not wanted:
            return inst
        names = {name: self._load(segment, name) for name in wanted}
        return replace(inst, operands=tuple(renamed(operand, names) for operand in inst.operands))

    def _load(self, segment: Segment, name: str) -> str:
        key = (segment.label, name)
        if key not in self.loaded:
            copy = f"%{segment.label}.{name[1:]}"
            address = self._home(name, f"{copy}.from")
            self.lines.append(f"  {copy} = load {self.lane.types[name]}, ptr {address}, align 1")
            self.loaded[key] = copy
        return self.loaded[key]

    def _load_for_phis(self, segment: Segment, made: set[str]) -> None:
        for label in successors(segment):
            for phi in self.segments[label].instructions:
                if phi.opcode != "phi":
                    break
                for operand, source in zip(phi.operands, phi.labels, strict=True):
                    name = str(operand.value)
                    if source[1:] == segment.label and name in self.homes and name not in made:
                        self._load(segment, name)

    def _phi(self, segment: Segment, phi: Instruction) -> str:
        """Write a phi with the predecessors that this region has; remembered values are loaded at their ends."""
        pairs = []
        for operand, label in zip(phi.operands, phi.labels, strict=True):
            source = label[1:]
            if source in self.segments and segment.label in successors(self.segments[source]):
                name = str(operand.value)
                made_there = name in self.made[source]
                shown = f"%{source}.{name[1:]}" if name in self.homes and not made_there else name
                pairs.append(f"[ {shown}, %{source} ]")
        return f"{_made(phi)} = phi {phi.type} {', '.join(pairs)}"


def renamed(operand: Typed, names: Mapping[str, str]) -> Typed:
    """Give the values in an operand other names."""
    return replace(operand, value=with_locals(operand.value, lambda name: Local(names.get(name, name))))


def _wave(lane: Lane, writers: Sequence[_Region], meets: Mapping[str, Meet], homes: Mapping[str, int]) -> str:
    """Write `@wave`: from the state it is given on, until all waves have to wait or the wave is done."""
    passed = declared(lane.parameters).replace(" noalias", "")
    lines = [f"define internal i32 @wave({declared(lane.parameters)}, i32 %state) {{", "entry:"]
    cases = " ".join(f"i32 {state_of(meet)}, label %at.{label}" for label, meet in meets.items() if meet.all_waves)
    lines.append(f"  switch i32 %state, label %at.{writers[0].start} [ {cases} ]")
    labels = {state_of(meet): f"at.{label}" for label, meet in meets.items() if not meet.all_waves}
    for writer in writers:
        lines.append(f"at.{writer.start}:")
        if writer.start in meets:
            lines += together(meets[writer.start], homes, writer.start)
        result = f"%next.{writer.start}"
        lines.append(f"  {result} = call i32 @region.{writer.start}({passed})")
        following = [state for state in writer.states() if state in labels]
        if not following:
            lines.append(f"  ret i32 {result}")
            continue
        if writer.states() == following[:1]:
            lines.append(f"  br label %{labels[following[0]]}")
            continue
        cases = " ".join(f"i32 {state}, label %{labels[state]}" for state in following)
        lines.append(f"  switch i32 {result}, label %stop.{writer.start} [ {cases} ]")
        lines += [f"stop.{writer.start}:", f"  ret i32 {result}"]
    return "\n".join([*lines, "}"])


_HEAD = """
define internal i32 @region.{name}({parameters}) noinline {{
entry:
{prelude}
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%lane.next, %latch]
"""
_ONE_EXIT = (
    _HEAD
    + """  %tid = add i32 %first, %lane
  br label %{start}
{body}
latch:
  %lane.next = add i32 %lane, 1
  %lane.more = icmp ult i32 %lane.next, 64
  br i1 %lane.more, label %lanes, label %exit
exit:
  ret i32 {state}
}}
"""
)
_MANY_EXITS = (
    _HEAD
    + """  %met = phi i32 [0, %entry], [%exit.state, %latch]
  %differs = phi i32 [0, %entry], [%differs.next, %latch]
  %tid = add i32 %first, %lane
  br label %{start}
{body}
latch:
  %exit.state = phi i32 {exits}
  %is.first = icmp eq i32 %lane, 0
  %compared = select i1 %is.first, i32 %exit.state, i32 %met
  %change = xor i32 %exit.state, %compared
  %differs.next = or i32 %differs, %change
  %lane.next = add i32 %lane, 1
  %lane.more = icmp ult i32 %lane.next, 64
  br i1 %lane.more, label %lanes, label %exit
exit:
  %all.same = icmp eq i32 %differs.next, 0
  %result = select i1 %all.same, i32 %exit.state, i32 {apart}
  ret i32 %result
}}
"""
)

# Only the lanes that are here run; each leaves word of where it stops.
_MASKED = (
    _HEAD
    + """  %tid = add i32 %first, %lane
  %states = getelementptr i8, ptr %frame, i64 {states}
  %state.at = getelementptr i32, ptr %states, i32 %lane
  %state.now = load i32, ptr %state.at
  %is.here = icmp eq i32 %state.now, {own}
  br i1 %is.here, label %{start}, label %latch
{body}
left:
  %exit.state = phi i32 {exits}
  store i32 %exit.state, ptr %state.at
  br label %latch
latch:
  %lane.next = add i32 %lane, 1
  %lane.more = icmp ult i32 %lane.next, 64
  br i1 %lane.more, label %lanes, label %exit
exit:
  ret i32 0
}}
"""
)
