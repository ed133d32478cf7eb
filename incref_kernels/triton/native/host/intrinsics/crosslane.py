"""Operations in which a lane reads another lane's value."""

from collections.abc import Callable, Sequence

from incref_kernels.triton.native.host.intrinsics.dpp import Nowhere, dpp_source
from incref_kernels.triton.native.host.intrinsics.lowering import Exchange, WaveOperation, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
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
    taken = builder.peek(place, value.type, builder.value(f"and i32 {source}, 63"))
    if _ZERO in sources:
        nothing = builder.value(f"icmp eq i32 {source}, {_ZERO}")
        taken = builder.value(f"select i1 {nothing}, {value.type} zeroinitializer, {value.type} {taken}")
    if _OLD in sources and old is not None:
        keeps = builder.value(f"icmp eq i32 {source}, {_OLD}")
        taken = builder.value(f"select i1 {keeps}, {old}, {value.type} {taken}")
    return taken


def _read_dpp(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    old, value = inst.operands[:2]
    control, rows, banks, bound = (constant(inst, index) for index in range(2, 6))
    sources = [dpp_source(lane, control, rows, banks, bound_control=bool(bound)) for lane in range(64)]
    coded = [{Nowhere.OLD: _OLD, Nowhere.ZERO: _ZERO}[s] if isinstance(s, Nowhere) else s for s in sources]
    return _permuted(builder, value, old, places[0], coded)


def _read_bpermute(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    """ds_bpermute_b32: lane i gets the value of lane (address / 4) mod 64."""
    address, value = inst.operands
    lane = builder.value(f"lshr {address}, 2")
    return builder.peek(places[0], value.type, builder.value(f"and i32 {lane}, 63"))


def _read_lane(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    value, lane = inst.operands
    return builder.peek(places[0], value.type, builder.value(f"and {lane}, 63"))


def _read_first(builder: LaneBuilder, inst: Instruction, places: Sequence[int]) -> str:
    """All 64 lanes are active, or the wave doesn't meet here: the first is lane 0."""
    return builder.peek(places[0], inst.operands[0].type, "0")


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
define internal void @push(ptr %addresses, ptr %values, ptr %results) noinline {
entry:
  call void @llvm.memset.p0.i64(ptr %results, i8 0, i64 256, i1 false)
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%next, %lanes]
  %address.at = getelementptr i32, ptr %addresses, i32 %lane
  %address = load i32, ptr %address.at
  %word = lshr i32 %address, 2
  %target = and i32 %word, 63
  %value.at = getelementptr i32, ptr %values, i32 %lane
  %value = load i32, ptr %value.at
  %result.at = getelementptr i32, ptr %results, i32 %target
  store i32 %value, ptr %result.at
  %next = add i32 %lane, 1
  %more = icmp ult i32 %next, 64
  br i1 %more, label %lanes, label %exit
exit:
  ret void
}
"""


def _push(
    builder: LaneBuilder, _inst: Instruction, names: Sequence[str], result: str
) -> Sequence[tuple[str, tuple[str | int, ...]]]:
    """ds_permute_b32: lane i gives its value to lane (address / 4) mod 64; of several, the highest lane's stays."""
    function = builder.helper("@push", _PUSH)
    return [(function, (names[0], names[1], result))]


CROSSLANE: dict[str, Exchange | WaveOperation] = {
    "llvm.amdgcn.ds.permute": WaveOperation(count=2, prepare=_push),
    "llvm.amdgcn.update.dpp": Exchange(show=_operand(1), read=_read_dpp),
    "llvm.amdgcn.ds.bpermute": Exchange(show=_operand(1), read=_read_bpermute),
    "llvm.amdgcn.readlane": Exchange(show=_operand(0), read=_read_lane),
    "llvm.amdgcn.readfirstlane": Exchange(show=_operand(0), read=_read_first),
    "llvm.amdgcn.ballot": Exchange(show=_show_bit, read=_read_ballot),
    "llvm.amdgcn.ds.swizzle": Exchange(show=_operand(0), read=_read_swizzle),
    "llvm.amdgcn.permlane16.swap": _swap(16),
    "llvm.amdgcn.permlane32.swap": _swap(32),
}
