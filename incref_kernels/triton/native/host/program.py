"""The functions that run a program's lanes, and a launch's programs, as LLVM IR."""

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.failure import Failure
from incref_kernels.triton.native.host.retarget import HostKernel
from incref_kernels.triton.native.host.waves import APART, DONE

__all__ = ["host_module"]


def host_module(kernel: HostKernel, *, waves: int) -> str:
    """Write the module: `run` takes programs until none is left.

    Args:
        kernel: the functions of a wave.
        waves: how many waves of 64 lanes a program has.
    """
    parameters = kernel.declared
    loads = [
        f"  %arg.at{index} = getelementptr i8, ptr %args, i64 {8 * index}\n  {name} = load {kind}, ptr %arg.at{index}"
        for index, (kind, name) in enumerate(parameter.split() for parameter in parameters)
    ]
    values = {
        "declared": ", ".join([*parameters, *_FIXED]),
        "loads": "\n".join(loads),
        "waves": waves,
        "frame_bytes": kernel.frame_bytes,
        "done": DONE,
        "apart": APART,
        "diverged": int(Failure.WAVE_DIVERGED),
        "missed": int(Failure.BARRIER_MISSED),
        **{f"at_{name}": offset(name) for name in _FIELDS},
    }
    return "\n".join([kernel.text, _RUN.format(**values), _PROGRAM.format(**values)])


_FIXED = ("ptr %ctx", "ptr %lds", "i32 %pid_x", "i32 %pid_y", "i32 %pid_z")
_FIELDS = (
    "pid", "grid", "lds", "states", "frames", "counter", "total", "order", "chunk",
    "error", "error_lane", "error_site", "error_other", "error_program", "phase",
)  # fmt: skip

_RUN = """
define i32 @run(ptr %args, ptr %ctx) {{
entry:
{loads}
  %lds_at = getelementptr i8, ptr %ctx, i64 {at_lds}
  %lds = load ptr, ptr %lds_at
  %grid_at = getelementptr i8, ptr %ctx, i64 {at_grid}
  %grid_x = load i32, ptr %grid_at
  %grid_y_at = getelementptr i32, ptr %grid_at, i64 1
  %grid_y = load i32, ptr %grid_y_at
  %counter_at = getelementptr i8, ptr %ctx, i64 {at_counter}
  %counter = load ptr, ptr %counter_at
  %total_at = getelementptr i8, ptr %ctx, i64 {at_total}
  %total = load i64, ptr %total_at
  %order_at = getelementptr i8, ptr %ctx, i64 {at_order}
  %order = load ptr, ptr %order_at
  %has_order = icmp ne ptr %order, null
  %chunk_at = getelementptr i8, ptr %ctx, i64 {at_chunk}
  %chunk = load i64, ptr %chunk_at
  br label %take
take:
  %begin = atomicrmw add ptr %counter, i64 %chunk monotonic
  %any = icmp slt i64 %begin, %total
  br i1 %any, label %taken, label %none_left
none_left:
  ret i32 0
taken:
  %wanted_end = add i64 %begin, %chunk
  %fits = icmp slt i64 %wanted_end, %total
  %end = select i1 %fits, i64 %wanted_end, i64 %total
  br label %next
next:
  %index = phi i64 [%begin, %taken], [%index_after, %advance]
  br i1 %has_order, label %shuffled, label %numbered
shuffled:
  %order_here = getelementptr i64, ptr %order, i64 %index
  %ordered = load i64, ptr %order_here
  br label %numbered
numbered:
  %wide = phi i64 [%index, %next], [%ordered, %shuffled]
  %grid_xw = zext i32 %grid_x to i64
  %grid_yw = zext i32 %grid_y to i64
  %xw = urem i64 %wide, %grid_xw
  %rows = udiv i64 %wide, %grid_xw
  %yw = urem i64 %rows, %grid_yw
  %zw = udiv i64 %rows, %grid_yw
  %pid_x = trunc i64 %xw to i32
  %pid_y = trunc i64 %yw to i32
  %pid_z = trunc i64 %zw to i32
  %pid_at = getelementptr i8, ptr %ctx, i64 {at_pid}
  store i32 %pid_x, ptr %pid_at
  %pid_y_at = getelementptr i32, ptr %pid_at, i64 1
  store i32 %pid_y, ptr %pid_y_at
  %pid_z_at = getelementptr i32, ptr %pid_at, i64 2
  store i32 %pid_z, ptr %pid_z_at
  call void @program({declared})
  %error_at = getelementptr i8, ptr %ctx, i64 {at_error}
  %error = load i32, ptr %error_at
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %fail, label %advance
advance:
  %index_after = add i64 %index, 1
  %more = icmp slt i64 %index_after, %end
  br i1 %more, label %next, label %take
fail:
  %program_at = getelementptr i8, ptr %ctx, i64 {at_error_program}
  store i32 %pid_x, ptr %program_at
  %program_y_at = getelementptr i32, ptr %program_at, i64 1
  store i32 %pid_y, ptr %program_y_at
  %program_z_at = getelementptr i32, ptr %program_at, i64 2
  store i32 %pid_z, ptr %program_z_at
  %old = atomicrmw xchg ptr %counter, i64 %total monotonic
  ret i32 %error
}}
"""

_PROGRAM = """
define internal void @program({declared}) {{
entry:
  %states_at = getelementptr i8, ptr %ctx, i64 {at_states}
  %states = load ptr, ptr %states_at
  %frames_at = getelementptr i8, ptr %ctx, i64 {at_frames}
  %frames = load ptr, ptr %frames_at
  %phase_at = getelementptr i8, ptr %ctx, i64 {at_phase}
  %error_at = getelementptr i8, ptr %ctx, i64 {at_error}
  br label %phase
phase:
  %is_first = phi i1 [true, %entry], [false, %again]
  %phase_before = load i32, ptr %phase_at
  %phase_now = add i32 %phase_before, 1
  store i32 %phase_now, ptr %phase_at
  br label %wave
wave:
  %w = phi i32 [0, %phase], [%w_next, %wave_end]
  %returned = phi i32 [0, %phase], [%returned_now, %wave_end]
  %start = mul nuw nsw i32 %w, 64
  %w_wide = zext i32 %w to i64
  %frame_start = mul i64 %w_wide, {frame_bytes}
  %frame = getelementptr i8, ptr %frames, i64 %frame_start
  %state_at = getelementptr i32, ptr %states, i32 %w
  %state_before = load i32, ptr %state_at
  %state = select i1 %is_first, i32 0, i32 %state_before
  %state_now = call i32 @wave({declared}, i32 %start, ptr %frame, i32 %state)
  store i32 %state_now, ptr %state_at
  %error = load i32, ptr %error_at
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %done, label %check
check:
  %is_apart = icmp eq i32 %state_now, {apart}
  br i1 %is_apart, label %apart, label %wave_end
wave_end:
  %is_done = icmp eq i32 %state_now, {done}
  %done_count = zext i1 %is_done to i32
  %returned_now = add i32 %returned, %done_count
  %w_next = add i32 %w, 1
  %more_waves = icmp ult i32 %w_next, {waves}
  br i1 %more_waves, label %wave, label %phase_end
phase_end:
  %all_returned = icmp eq i32 %returned_now, {waves}
  br i1 %all_returned, label %done, label %some
some:
  %none_returned = icmp eq i32 %returned_now, 0
  br i1 %none_returned, label %again, label %missed
again:
  br label %phase
missed:
  store i32 {missed}, ptr %error_at
  %missed_site = getelementptr i8, ptr %ctx, i64 {at_error_site}
  store i32 %state_now, ptr %missed_site
  %missed_other = getelementptr i8, ptr %ctx, i64 {at_error_other}
  %wave_zero_state = load i32, ptr %states
  store i32 %wave_zero_state, ptr %missed_other
  ret void
apart:
  store i32 {diverged}, ptr %error_at
  %lane_at = getelementptr i8, ptr %ctx, i64 {at_error_lane}
  store i32 %start, ptr %lane_at
  ret void
done:
  ret void
}}
"""
