"""The function of one lane.

A lane of a kernel in which lanes meet is a coroutine: it stops wherever it needs the others, and whoever runs the
program resumes it when they are there too. A lane of a kernel without such places is an ordinary function.

A meeting point is a number: `2 * number` where the lanes of one wave meet, `2 * number + 1` where all waves do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.llir.locations import SourceLine
from incref_kernels.triton.native.llir.types import PtrType, Type
from incref_kernels.triton.native.llir.values import Typed, Value

__all__ = ["DONE", "LaneBuilder", "Site"]

# The point of a lane that has returned; odd, as all waves have to get there.
DONE = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Site:
    """A numbered place of the kernel: what happens there, and on which line."""

    what: str
    line: SourceLine


@dataclass(kw_only=True)
class LaneBuilder:
    """Writes the body of the lane function, line by line.

    Attributes:
        meets: whether lanes are coroutines.
        lines: what is written so far.
        entry: what is written into the first block, where it comes before all else.
        label: the block that is written now.
        sites: the numbered places so far; a meeting point's number is its index.
        line: the line of the source of what is written now.
        slot_bytes: the most that a wave exchanges at once.
        helpers: the functions and constants that the body needs, by name.
    """

    meets: bool
    lines: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    label: str = ""
    sites: list[Site] = field(default_factory=list)
    line: SourceLine = field(default_factory=lambda: SourceLine(file="", line=0))
    slot_bytes: int = 0
    helpers: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def emit(self, text: str) -> None:
        """Write an instruction."""
        self.lines.append("  " + text)

    def value(self, text: str) -> str:
        """Write an instruction that has a result; the result's name."""
        self._count += 1
        name = f"%n{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def block(self, purpose: str) -> str:
        """Invent the name of a block."""
        self._count += 1
        return f"{purpose}{self._count}"

    def start(self, label: str) -> None:
        """Begin the block `label`."""
        self.lines.append(f"{label}:")
        self.label = label

    def in_entry(self, text: str) -> str:
        """Write an instruction into the first block; the result's name."""
        self._count += 1
        name = f"%n{self._count}"
        self.entry.append(f"  {name} = {text}")
        return name

    def site(self, what: str) -> int:
        """Number a place."""
        self.sites.append(Site(what=what, line=self.line))
        return len(self.sites) - 1

    def context(self, name: str, kind: str) -> str:
        """Load a field of the worker's record."""
        address = self.value(f"getelementptr i8, ptr %ctx, i64 {offset(name)}")
        return self.value(f"load {kind}, ptr {address}")

    def helper(self, name: str, text: str) -> str:
        """Make the definition `text` of `name` part of the module."""
        self.helpers[name] = text
        return name

    @contextmanager
    def only_if(self, condition: str) -> Iterator[None]:
        """Write what follows into a block that runs only where `condition` holds."""
        then, after = self.block("then"), self.block("after")
        self.emit(f"br i1 {condition}, label %{then}, label %{after}")
        self.start(then)
        yield
        self.emit(f"br label %{after}")
        self.start(after)

    def meet(self, what: str, *, all_waves: bool = False) -> None:
        """Stop until the other lanes of the wave, or of all waves, are here too."""
        assert self.meets, what
        point = 2 * self.site(what) + all_waves
        resumed = self.block("resumed")
        self.emit(f"store i32 {point}, ptr %point")
        state = self.value("call i8 @llvm.coro.suspend(token none, i1 false)")
        self.emit(f"switch i8 {state}, label %suspended [i8 0, label %{resumed} i8 1, label %suspended]")
        self.start(resumed)

    def exchange(self, what: str, values: list[Typed], *, last: str | None = None, result: Type | None = None) -> list[str]:
        """Show values to the wave; where all lanes' values of each operand lie afterwards.

        Args:
            what: the operation, for messages.
            values: what this lane shows.
            last: a function that the last lane calls once all values are there, with the pointers as arguments.
            result: the type of what `last` leaves for each lane; its pointer comes after those of the values.
        """
        slots = self.context("slots", "ptr")
        types = [value.type for value in values] + ([result] if result else [])
        addresses, start = [], 0
        for kind in types:
            addresses.append(self.value(f"getelementptr i8, ptr {slots}, i64 {start}"))
            start += -(-64 * stride(kind) // 64) * 64
        self.slot_bytes = max(self.slot_bytes, start)
        for value, address in zip(values, addresses, strict=False):
            self.emit(f"store {value}, ptr {self.slot(address, value.type, '%lane')}, align 1")
        if last:
            is_last = self.value("icmp eq i32 %lane, 63")
            with self.only_if(is_last):
                self.emit(f"call void {last}({', '.join(f'ptr {address}' for address in addresses)})")
        self.meet(what)
        return addresses

    def slot(self, base: str, kind: Type, lane: str) -> str:
        """The address of a lane's slot."""
        place = self.value(f"mul i32 {lane}, {stride(kind)}")
        return self.value(f"getelementptr i8, ptr {base}, i32 {place}")

    def peek(self, base: str, kind: Type, lane: str) -> str:
        """Load what `lane` shows."""
        return self.value(f"load {kind}, ptr {self.slot(base, kind, lane)}, align 1")

    def typed(self, kind: Type, name: str) -> Typed:
        """Wrap a name of the host's as an operand."""
        return Typed(kind, _HostName(name))

    def pointer(self, name: str) -> Typed:
        """Wrap a pointer."""
        return self.typed(PtrType(), name)


@dataclass(frozen=True)
class _HostName(Value):
    """A value that the host's code names."""

    name: str

    def __str__(self) -> str:
        return self.name


def stride(kind: Type) -> int:
    """Bytes between the slots of two lanes."""
    return max(kind.size, 1)
