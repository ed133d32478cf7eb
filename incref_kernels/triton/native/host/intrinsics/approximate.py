"""Instructions that a GPU computes to within some units in the last place: the host computes the function itself."""

from incref_kernels.triton.native.host.intrinsics.lowering import Simple
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["APPROXIMATE", "reciprocal_root"]

_ONE = "1.000000e+00"


def _of_c(name: str) -> Simple:
    """The function of the C library called `name`, with an f at its end for float."""

    def lower(builder: LaneBuilder, inst: Instruction) -> str:
        (x,) = inst.operands
        function = name + ("" if str(inst.type) == "double" else "f")
        builder.helper(f"@{function}", f"declare {inst.type} @{function}({x.type})")
        return builder.value(f"call {inst.type} @{function}({x})")

    return lower


def _reciprocal(builder: LaneBuilder, inst: Instruction) -> str:
    (x,) = inst.operands
    return builder.value(f"fdiv {inst.type} {_ONE}, {x.value}")


def reciprocal_root(builder: LaneBuilder, inst: Instruction) -> str:
    """Write `1 / sqrt(x)`: of a float in double, then rounded once more."""
    (x,) = inst.operands
    is_wide = str(inst.type) == "double"
    wide = str(x.value) if is_wide else builder.value(f"fpext {x} to double")
    root = builder.value(f"call double @llvm.sqrt.f64(double {wide})")
    inverse = builder.value(f"fdiv double {_ONE}, {root}")
    return inverse if is_wide else builder.value(f"fptrunc double {inverse} to {inst.type}")


APPROXIMATE: dict[str, Simple] = {
    "llvm.amdgcn.exp2": _of_c("exp2"),
    "llvm.amdgcn.log": _of_c("log2"),
    "llvm.amdgcn.rcp": _reciprocal,
    "llvm.amdgcn.rsq": reciprocal_root,
    "llvm.amdgcn.sqrt": _of_c("sqrt"),
}
