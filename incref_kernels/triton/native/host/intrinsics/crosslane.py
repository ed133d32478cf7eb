"""Operations in which a lane reads another lane's value."""

from collections.abc import Sequence

from incref_kernels.triton.native.host.intrinsics.dpp import Nowhere, dpp_source
from incref_kernels.triton.native.host.intrinsics.lowering import Lowering, constant
from incref_kernels.triton.native.host.lanes import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction
from incref_kernels.triton.native.llir.types import IntType, StructType
from incref_kernels.triton.native.llir.values import Typed

__all__ = ["CROSSLANE"]

# In a table of source lanes: no lane.
_OLD, _ZERO = 0xFF, 0xFE


def _table(builder: LaneBuilder, sources: Sequence[int]) -> str:
    """Load this lane's entry of a constant table of 64 bytes, as i32."""
    content = "".join(f"\\{source:02X}" for source in sources)
    name = f"@lanes.{''.join(f'{source:02x}' for source in sources)}"
    builder.helper(name, f'{name} = private unnamed_addr constant [64 x i8] c"{content}"')
    address = builder.value(f"getelementptr [64 x i8], ptr {name}, i32 0, i32 %lane")
    byte = builder.value(f"load i8, ptr {address}")
    return builder.value(f"zext i8 {byte} to i32")


def _permuted(builder: LaneBuilder, what: str, value: Typed, old: Typed | None, sources: Sequence[int]) -> str:
    (base,) = builder.exchange(what, [value])
    source = _table(builder, sources)
    taken = builder.peek(base, value.type, builder.value(f"and i32 {source}, 63"))
    if _ZERO in sources:
        nothing = builder.value(f"icmp eq i32 {source}, {_ZERO}")
        taken = builder.value(f"select i1 {nothing}, {value.type} zeroinitializer, {value.type} {taken}")
    if _OLD in sources and old is not None:
        keeps = builder.value(f"icmp eq i32 {source}, {_OLD}")
        taken = builder.value(f"select i1 {keeps}, {old}, {value.type} {taken}")
    return taken


def _dpp(builder: LaneBuilder, inst: Instruction) -> str:
    old, value = inst.operands[:2]
    control, rows, banks, bound = (constant(inst, index) for index in range(2, 6))
    sources = [dpp_source(lane, control, rows, banks, bound_control=bool(bound)) for lane in range(64)]
    coded = [{Nowhere.OLD: _OLD, Nowhere.ZERO: _ZERO}[s] if isinstance(s, Nowhere) else s for s in sources]
    return _permuted(builder, "update.dpp", value, old, coded)


def _bpermute(builder: LaneBuilder, inst: Instruction) -> str:
    """ds_bpermute_b32: lane i gets the value of lane (address / 4) mod 64."""
    address, value = inst.operands
    (base,) = builder.exchange("ds.bpermute", [value])
    lane = builder.value(f"lshr i32 {address.value}, 2")
    return builder.peek(base, value.type, builder.value(f"and i32 {lane}, 63"))


def _readlane(builder: LaneBuilder, inst: Instruction) -> str:
    value, lane = inst.operands
    (base,) = builder.exchange("readlane", [value])
    return builder.peek(base, value.type, builder.value(f"and i32 {lane.value}, 63"))


def _readfirstlane(builder: LaneBuilder, inst: Instruction) -> str:
    """All 64 lanes are active, or the wave doesn't meet here: the first is lane 0."""
    (value,) = inst.operands
    (base,) = builder.exchange("readfirstlane", [value])
    return builder.peek(base, value.type, "0")


def _ballot(builder: LaneBuilder, inst: Instruction) -> str:
    bit = builder.value(f"zext i1 {inst.operands[0].value} to i8")
    (base,) = builder.exchange("ballot", [builder.typed(IntType(8), bit)])
    bytes_ = builder.value(f"load <64 x i8>, ptr {base}, align 1")
    bits = builder.value(f"icmp ne <64 x i8> {bytes_}, zeroinitializer")
    return builder.value(f"bitcast <64 x i1> {bits} to i64")


def _swizzle(builder: LaneBuilder, inst: Instruction) -> str:
    """ds_swizzle_b32: bit masks within 32 lanes, or (bit 15 of the offset set) a permutation of each 4."""
    mode = constant(inst, 1) & 0xFFFF

    def source(lane: int) -> int:
        if mode & 0x8000:
            return lane & ~3 | mode >> 2 * (lane & 3) & 3
        return lane & 32 | ((lane & 31) & (mode & 31) | mode >> 5 & 31) ^ (mode >> 10 & 31)

    return _permuted(builder, "ds.swizzle", inst.operands[0], None, [source(lane) for lane in range(64)])


def _swap(width: int) -> Lowering:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        """v_permlane{16,32}_swap: odd rows of the first register change places with even rows of the second."""
        first, second = inst.operands[:2]
        bases = builder.exchange(f"permlane{width}.swap", [first, second])
        odd = builder.value(f"and i32 %lane, {width}")
        is_odd = builder.value(f"icmp ne i32 {odd}, 0")
        other = builder.value(f"xor i32 %lane, {width}")
        crossed_first = builder.peek(bases[1], second.type, other)
        crossed_second = builder.peek(bases[0], first.type, other)
        new_first = builder.value(f"select i1 {is_odd}, i32 {crossed_first}, {first}")
        new_second = builder.value(f"select i1 {is_odd}, {second}, i32 {crossed_second}")
        pair = str(StructType((IntType(32), IntType(32))))
        half = builder.value(f"insertvalue {pair} poison, i32 {new_first}, 0")
        return builder.value(f"insertvalue {pair} {half}, i32 {new_second}, 1")

    return lower



CROSSLANE: dict[str, Lowering] = {
    "llvm.amdgcn.update.dpp": _dpp,
    "llvm.amdgcn.ds.bpermute": _bpermute,
    "llvm.amdgcn.readlane": _readlane,
    "llvm.amdgcn.readfirstlane": _readfirstlane,
    "llvm.amdgcn.ballot": _ballot,
    "llvm.amdgcn.ds.swizzle": _swizzle,
    "llvm.amdgcn.permlane16.swap": _swap(16),
    "llvm.amdgcn.permlane32.swap": _swap(32),
}
