"""The code of one lane, cut into segments where the lane has to wait for others."""

from dataclasses import dataclass, field

from incref_kernels.triton.native.llir.cursor import Cursor
from incref_kernels.triton.native.llir.locations import SourceLine
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.parse_instructions import parse_instruction
from incref_kernels.triton.native.llir.types import Type
from incref_kernels.triton.native.llir.values import Literal, Local, Typed

__all__ = ["LINE", "Copy", "LaneBuilder", "Mask", "Meet", "Segment", "Site", "WaveCall", "stride"]

# Places of a wave's frame begin at multiples of so many bytes.
LINE = 64


@dataclass(frozen=True, kw_only=True)
class Site:
    """A numbered place of the kernel: what happens there, and on which line."""

    what: str
    line: SourceLine


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Places of the wave's frame that say where its lanes are.

    Attributes:
        states: the state of each lane, i32.
        active: 1 for each lane that takes part in the meeting, else 0; i8.
        first: the first lane that takes part, i32.
    """

    states: int
    active: int
    first: int


@dataclass(frozen=True, kw_only=True)
class Copy:
    """All lanes' values of `shown` are copied to the place `target` of the wave's frame, where they can be read.

    Of lanes that are elsewhere 0 is copied, unless `of_all`.
    """

    shown: str
    kind: Type
    target: int
    of_all: bool


@dataclass(frozen=True, kw_only=True)
class WaveCall:
    """A function is called for the whole wave, with the addresses of its operands: all lanes' values, lane after lane.

    Attributes:
        function: its name.
        operands: the values, in the order of its parameters; an integer is a place in the wave's frame.
    """

    function: str
    operands: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Meet:
    """Lanes wait for each other.

    Attributes:
        site: the number of the place.
        all_waves: whether all waves wait, or the lanes of one.
        resumes: the label of the segment that comes after it.
        copies: what is copied while all wait.
        calls: what is called then, in this order.
        results: the values that the calls make, with their types.
    """

    site: int
    all_waves: bool
    resumes: str
    copies: tuple[Copy, ...] = ()
    calls: tuple[WaveCall, ...] = ()
    results: tuple[tuple[str, Type], ...] = ()

    @property
    def uses(self) -> set[str]:
        """The values that have to be in memory while all wait."""
        called = {operand for call in self.calls for operand in call.operands if isinstance(operand, str)}
        return {copy.shown for copy in self.copies} | called - {name for name, _ in self.results}


@dataclass(kw_only=True)
class Segment:
    """Instructions that a lane runs without a stop.

    Attributes:
        label: its label, without `%`.
        instructions: phis first, then the rest; the last one branches unless `ends` says how the segment ends.
        ends: the meeting at its end; None where it branches or returns.
    """

    label: str
    instructions: list[Instruction] = field(default_factory=list)
    ends: Meet | None = None


@dataclass(kw_only=True)
class LaneBuilder:
    """Writes the code of one lane.

    Attributes:
        segments: what is written so far.
        prelude: addresses that the code computes from nothing but the program's memory.
        helpers: the functions and constants that the code needs, by name.
        sites: the numbered places so far.
        line: the line of the source of what is written now.
        mask: what a kernel needs whose lanes may wait at different places; None for others.
        frame_bytes: how much of the wave's frame is given away.
        places: parts of the frame that have a purpose, by its name.
    """

    segments: list[Segment] = field(default_factory=list)
    prelude: list[Instruction] = field(default_factory=list)
    helpers: dict[str, str] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    line: SourceLine = field(default_factory=lambda: SourceLine(file="", line=0))
    mask: "Mask | None" = None
    frame_bytes: int = 0
    places: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def add(self, inst: Instruction) -> None:
        """Write an instruction."""
        self.segments[-1].instructions.append(inst)

    def emit(self, text: str) -> None:
        """Write an instruction that has no result."""
        self.add(parse_instruction(Cursor(text)))

    def value(self, text: str) -> str:
        """Write an instruction that has a result; the result's name."""
        name = self._name()
        self.add(parse_instruction(Cursor(f"{name} = {text}")))
        return name

    def define(self, result: str, text: str) -> None:
        """Write an instruction whose result has a name already."""
        self.add(parse_instruction(Cursor(f"{result} = {text}")))

    def before_all(self, text: str) -> str:
        """Write an address into the prelude; its name."""
        name = self._name()
        self.prelude.append(parse_instruction(Cursor(f"{name} = {text}")))
        return name

    def start(self, label: str) -> None:
        """Begin a segment."""
        self.segments.append(Segment(label=label))

    def block(self, purpose: str) -> str:
        """Invent a label."""
        self._count += 1
        return f"{purpose}{self._count}"

    def site(self, what: str) -> int:
        """Number a place."""
        self.sites.append(Site(what=what, line=self.line))
        return len(self.sites) - 1

    def helper(self, name: str, text: str) -> str:
        """Make the definition `text` of `name` part of the module."""
        self.helpers[name] = text
        return name

    def reserve(self, size: int) -> int:
        """Give away a part of the wave's frame; where it starts."""
        start = self.frame_bytes
        self.frame_bytes += -(-size // LINE) * LINE
        return start

    def named(self, value: Typed) -> str:
        """The name of `value`; a constant gets one."""
        if isinstance(value.value, Local):
            return str(value.value)
        return self.value(f"select i1 true, {value}, {value}")

    def meet(
        self,
        what: str,
        *,
        all_waves: bool = False,
        copies: tuple[Copy, ...] = (),
        calls: tuple[WaveCall, ...] = (),
        results: tuple[tuple[str, Type], ...] = (),
    ) -> None:
        """End the segment: the lanes wait here."""
        resumed = self.block("resumed")
        self.segments[-1].ends = Meet(
            site=self.site(what), all_waves=all_waves, resumes=resumed, copies=copies, calls=calls, results=results
        )
        self.start(resumed)

    def peek(self, place: int, kind: Type, lane: str) -> str:
        """Load what `lane` shows at `place` of the wave's frame."""
        distance = self.value(f"mul i32 {lane}, {stride(kind)}")
        start = self.value(f"getelementptr i8, ptr %frame, i64 {place}")
        address = self.value(f"getelementptr i8, ptr {start}, i32 {distance}")
        return self.value(f"load {kind}, ptr {address}, align 1")

    def typed(self, kind: Type, name: str) -> Typed:
        """Wrap a name or a constant as an operand."""
        return Typed(kind, Local(name) if name.startswith("%") else Literal(name))

    def _name(self) -> str:
        self._count += 1
        return f"%n{self._count}"


def stride(kind: Type) -> int:
    """Bytes between the values of two lanes."""
    return max(kind.size, 1)
