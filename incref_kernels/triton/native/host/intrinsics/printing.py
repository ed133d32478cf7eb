"""`tl.device_print`: Triton's calls of AMD's printf, handed to a function of the host's."""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.intrinsics.lowering import Simple, constant
from incref_kernels.triton.native.host.segments import LaneBuilder
from incref_kernels.triton.native.llir.model import Instruction

__all__ = ["PRINTING"]

# Arguments that one call of AMD's printf carries.
_ARGUMENTS = 7

_DECLARED = ", ".join(f"i64 %a{i}" for i in range(_ARGUMENTS))
_STORES = "\n".join(
    f"  %at{i} = getelementptr i64, ptr %values, i64 {i}\n  store i64 %a{i}, ptr %at{i}" for i in range(_ARGUMENTS)
)
_HELPER = f"""
define internal void @device_print(ptr %ctx, i64 %format, i32 %count, {_DECLARED}, i32 %last) noinline {{
  %values = alloca [{_ARGUMENTS} x i64]
{_STORES}
  %place = getelementptr i8, ptr %ctx, i64 {offset("print")}
  %function = load ptr, ptr %place
  call void %function(i64 %format, i32 %count, ptr %values, i32 %last)
  ret void
}}
"""


def _begin(_builder: LaneBuilder, _inst: Instruction) -> str:
    return "0"


def _string(builder: LaneBuilder, inst: Instruction) -> str:
    """The format becomes the handle that the arguments are appended to; text without arguments is an assertion's."""
    if constant(inst, 3):
        return "0"
    return builder.value(f"ptrtoint {inst.operands[1]} to i64")


def _arguments(builder: LaneBuilder, inst: Instruction) -> str:
    builder.helper("@device_print", _HELPER)
    builder.emit(f"call void @device_print(ptr %ctx, {', '.join(map(str, inst.operands))})")
    return str(inst.operands[0].value)


PRINTING: dict[str, Simple] = {
    "__ockl_printf_begin": _begin,
    "__ockl_fprintf_stderr_begin": _begin,
    "__ockl_printf_append_string_n": _string,
    "__ockl_printf_append_args": _arguments,
}
