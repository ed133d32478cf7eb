"""Operations in which a lane reads another lane's value."""

from collections.abc import Callable, Sequence

from incref_kernels.triton.native.host.intrinsics.dpp import Nowhere, dpp_source
from incref_kernels.triton.native.host.intrinsics.lowering import Exchange, WaveOperation, constant
from incref_kernels.triton.native.host.segments import LaneBuilder, Mask
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType, StructType
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["CROSSLANE"]

# In a table of source lanes: no lane.
_OLD, _ZERO = 0xFF, 0xFE


def _operand(index: int) -> Callable[[LaneBuilder, Instruction], Sequence[Typed]]:
    return lambda _builder, inst: [inst.operands[index]]


def _table(builder: LaneBuilder, sources: Sequence[int]) -> str:
    """Load this lane's entry of a constant table of 64 bytes, as i32."""
    content = "".join(f"\\{source:02X}" for source in sources)
    name = f"@lanes.{''.join(f'{source:02x}' for source in sources)}"
    builder.helper(name, f'{name} = private unnamed_addr constant [64 x i8] c"{content}"')
    address = builder.value(f"getelementptr [64 x i8], ptr {name}, i32 0, i32 %lane")
    byte = builder.value(f"load i8, ptr {address}")
    return builder.value(f"zext i8 {byte} to i32")


def _permuted(builder: LaneBuilder, value: Typed, old: Typed | None, place: int, sources: Sequence[int]) -> str:
    source = _table(builder, sources)
    if builder.mask and old is not None:
        source = _without_absent(builder, source, builder.mask)
    taken = builder.peek(place, value.type, builder.value(f"and i32 {source}, 63"))
    if _ZERO in sources:
        nothing = builder.value(f"icmp eq i32 {source}, {_ZERO}")
        taken = builder.value(f"select i1 {nothing}, {value.type} zeroinitializer, {value.type} {taken}")
    if (_OLD in sources or builder.mask) and old is not None:
        keeps = builder.value(f"icmp eq i32 {source}, {_OLD}")
        taken = builder.value(f"select i1 {keeps}, {old}, {value.type} {taken}")
    return taken


def _without_absent(builder: LaneBuilder, source: str, mask: Mask) -> str:
    """A lane that is elsewhere is no source: the reader keeps its old value."""
    lane = builder.value(f"and i32 {source}, 63")
    active = builder.peek(mask.active, IntType(8), lane)
    is_absent = builder.value(f"icmp eq i8 {active}, 0")
    is_lane = builder.value(f"icmp ult i32 {source}, 64")
    keeps = builder.value(f"and i1 {is_absent}, {is_lane}")
    return builder.value(f"select i1 {keeps}, i32 {_OLD}, i32 {source}")


def _read_dpp(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    old, value = inst.operands[:2]
    control, rows, banks, bound = (constant(inst, index) for index in range(2, 6))
    sources = [dpp_source(lane, control, rows, banks, bound_control=bool(bound)) for lane in range(64)]
    coded = [{Nowhere.OLD: _OLD, Nowhere.ZERO: _ZERO}[s] if isinstance(s, Nowhere) else s for s in sources]
    # With bound control a source that is elsewhere reads as 0, which is what is copied of it.
    keeps_old = not bound or _OLD in coded
    return _permuted(builder, value, old if keeps_old else None, places[0], coded)


def _read_bpermute(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    """ds_bpermute_b32: lane i gets the value of lane (address / 4) mod 64."""
    address, value = inst.operands
    lane = builder.value(f"lshr {address}, 2")
    return builder.peek(places[0], value.type, builder.value(f"and i32 {lane}, 63"))


def _read_lane(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    value, lane = inst.operands
    return builder.peek(places[0], value.type, builder.value(f"and {lane}, 63"))


def _read_first(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    """The first of the lanes that take part: lane 0 where all do."""
    first = builder.peek(builder.mask.first, IntType(32), "0") if builder.mask else "0"
    return builder.peek(places[0], inst.operands[0].type, first)


def _show_bit(builder: LaneBuilder, inst: Instruction) -> Sequence[Typed]:
    bit = builder.value(f"zext i1 {inst.operands[0].value} to i8")
    return [builder.typed(IntType(8), bit)]


def _read_ballot(builder: LaneBuilder, _inst: Instruction, places: Sequence[int]) -> str:
    address = builder.value(f"getelementptr i8, ptr %frame, i64 {places[0]}")
    shown = builder.value(f"load <64 x i8>, ptr {address}, align 1")
    bits = builder.value(f"icmp ne <64 x i8> {shown}, zeroinitializer")
    return builder.value(f"bitcast <64 x i1> {bits} to i64")


def _read_swizzle(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    """ds_swizzle_b32: bit masks within 32 lanes, or (bit 15 of the offset set) a permutation of each 4."""
    mode = constant(inst, 1) & 0xFFFF
    sources = [swizzle_source(lane, mode) for lane in range(64)]
    return _permuted(builder, inst.operands[0], None, places[0], sources)


def swizzle_source(lane: int, mode: int) -> int:
    """The lane that `lane` reads in ds_swizzle_b32 with the offset `mode`."""
    if mode & 0x8000:
        return lane & ~3 | mode >> 2 * (lane & 3) & 3
    return lane & 32 | ((lane & 31) & (mode & 31) | mode >> 5 & 31) ^ (mode >> 10 & 31)


def _swap(width: int) -> Exchange:
    """v_permlane{16,32}_swap: odd rows of the first register change places with even rows of the second."""

    def read(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
        first, second = inst.operands[:2]
        odd = builder.value(f"and i32 %lane, {width}")
        is_odd = builder.value(f"icmp ne i32 {odd}, 0")
        other = builder.value(f"xor i32 %lane, {width}")
        from_second = builder.peek(places[1], second.type, other)
        from_first = builder.peek(places[0], first.type, other)
        new_first = builder.value(f"select i1 {is_odd}, i32 {from_second}, {first}")
        new_second = builder.value(f"select i1 {is_odd}, {second}, i32 {from_first}")
        pair = str(StructType((IntType(32), IntType(32))))
        half = builder.value(f"insertvalue {pair} poison, i32 {new_first}, 0")
        return builder.value(f"insertvalue {pair} {half}, i32 {new_second}, 1")

    return Exchange(show=lambda _builder, inst: inst.operands[:2], read=read)


_PUSH = """
define internal void @push{name}(ptr %addresses, ptr %values, ptr %results{parameter}) noinline {{
entry:
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%next, %lane.end]
  %pass = phi i1 [true, %entry], [%pass.next, %lane.end]
  %index = and i32 %lane, 63
{takes_part}
  br i1 %takes.part, label %there, label %lane.end
there:
  %own.at = getelementptr i32, ptr %results, i32 %index
  br i1 %pass, label %clear, label %give
clear:
  store i32 0, ptr %own.at
  br label %lane.end
give:
  %address.at = getelementptr i32, ptr %addresses, i32 %index
  %address = load i32, ptr %address.at
  %word = lshr i32 %address, 2
  %target = and i32 %word, 63
{target_takes_part}
  br i1 %target.takes.part, label %write, label %lane.end
write:
  %value.at = getelementptr i32, ptr %values, i32 %index
  %value = load i32, ptr %value.at
  %result.at = getelementptr i32, ptr %results, i32 %target
  store i32 %value, ptr %result.at
  br label %lane.end
lane.end:
  %next = add i32 %lane, 1
  %pass.next = icmp ult i32 %next, 64
  %more = icmp ult i32 %next, 128
  br i1 %more, label %lanes, label %exit
exit:
  ret void
}}
"""
_ACTIVE = """  %{name}.at = getelementptr i8, ptr %active, i32 {lane}
  %{name}.bit = load i8, ptr %{name}.at
  %{name} = icmp ne i8 %{name}.bit, 0"""
_ALL = "  %{name} = icmp uge i32 {lane}, 0"


def _push(
    builder: LaneBuilder, _inst: Instruction, names: Sequence[str], result: str
) -> Sequence[tuple[str, tuple[str | int, ...]]]:
    """ds_permute_b32: lane i gives its value to lane (address / 4) mod 64; of several, the highest lane's stays."""
    test = _ACTIVE if builder.mask else _ALL
    text = _PUSH.format(
        name=".masked" if builder.mask else "",
        parameter=", ptr %active" if builder.mask else "",
        takes_part=test.format(name="takes.part", lane="%index"),
        target_takes_part=test.format(name="target.takes.part", lane="%target"),
    )
    function = builder.helper("@push.masked" if builder.mask else "@push", text)
    active = (builder.mask.active,) if builder.mask else ()
    return [(function, (names[0], names[1], result, *active))]


CROSSLANE: dict[str, Exchange | WaveOperation] = {
    "llvm.amdgcn.ds.permute": WaveOperation(shown=(0, 1), prepare=_push),
    "llvm.amdgcn.update.dpp": Exchange(show=_operand(1), read=_read_dpp),
    "llvm.amdgcn.ds.bpermute": Exchange(show=_operand(1), read=_read_bpermute),
    "llvm.amdgcn.readlane": Exchange(show=_operand(0), read=_read_lane, of_all=True),
    "llvm.amdgcn.readfirstlane": Exchange(show=_operand(0), read=_read_first),
    "llvm.amdgcn.ballot": Exchange(show=_show_bit, read=_read_ballot),
    "llvm.amdgcn.ds.swizzle": Exchange(show=_operand(0), read=_read_swizzle),
    "llvm.amdgcn.permlane16.swap": _swap(16),
    "llvm.amdgcn.permlane32.swap": _swap(32),
}
