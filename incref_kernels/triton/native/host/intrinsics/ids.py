"""Which lane, which program."""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["IDS"]


def _named(name: str) -> Simple:
    return lambda _builder, _inst: name


def _implicit(builder: LaneBuilder, _inst: Instruction) -> str:
    # Code object v5: the number of workgroups by axis comes first.
    return builder.value(f"getelementptr i8, ptr %ctx, i64 {offset('grid')}")


def _lanes_below(shift: int) -> Simple:
    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        """v_mbcnt: count the bits of the mask that belong to lanes below this one, and add."""
        mask, start = inst.operands
        below = builder.value("zext i32 %lane to i64")
        bits = builder.value(f"shl nuw i64 1, {below}")
        all_below = builder.value(f"add i64 {bits}, -1")
        half = builder.value(f"lshr i64 {all_below}, {shift}")
        narrow = builder.value(f"trunc i64 {half} to i32")
        kept = builder.value(f"and i32 {mask.value}, {narrow}")
        count = builder.value(f"call i32 @llvm.ctpop.i32(i32 {kept})")
        return builder.value(f"add i32 {count}, {start.value}")

    return lower


def _num_groups(builder: LaneBuilder, inst: Instruction) -> str:
    """The number of programs along an axis."""
    grid = _implicit(builder, inst)
    address = builder.value(f"getelementptr i32, ptr {grid}, {inst.operands[0]}")
    count = builder.value(f"load i32, ptr {address}")
    return builder.value(f"zext i32 {count} to i64")


IDS: dict[str, Simple] = {
    "llvm.amdgcn.workitem.id.x": _named("%tid"),
    "llvm.amdgcn.workitem.id.y": _named("0"),
    "llvm.amdgcn.workitem.id.z": _named("0"),
    "llvm.amdgcn.workgroup.id.x": _named("%pid_x"),
    "llvm.amdgcn.workgroup.id.y": _named("%pid_y"),
    "llvm.amdgcn.workgroup.id.z": _named("%pid_z"),
    "llvm.amdgcn.implicitarg.ptr": _implicit,
    "__ockl_get_num_groups": _num_groups,
    "llvm.amdgcn.mbcnt.lo": _lanes_below(0),
    "llvm.amdgcn.mbcnt.hi": _lanes_below(32),
}
