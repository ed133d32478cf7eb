"""The functions that run a program's lanes, and a launch's programs, as LLVM IR."""

from enum import IntEnum

from incref_kernels.triton.native.host.context import offset
from incref_kernels.triton.native.host.lanes import DONE
from incref_kernels.triton.native.host.retarget import HostLane

__all__ = ["Failure", "host_module"]


class Failure(IntEnum):
    """What ended a run."""

    NONE = 0
    WAVE_DIVERGED = 1
    """Lanes of one wave stopped at different places."""
    BARRIER_MISSED = 2
    """Some waves reached a barrier, others returned."""
    ASSERTION = 3
    """A `tl.device_assert` failed."""
    OUT_OF_BOUNDS = 4
    """A load or store outside of every tensor (debug mode)."""


def host_module(lane: HostLane, *, waves: int, coro_end: str) -> str:
    """Write the module: `run` takes programs until none is left, `frame_size` tells what a lane's coroutine needs.

    Args:
        lane: the lane function.
        waves: how many waves of 64 lanes a program has.
        coro_end: the type that the host's LLVM gives `llvm.coro.end`.
    """
    parameters = [f"{kind} %a{index}" for index, kind in enumerate(lane.parameters)]
    values = {
        "declared": ", ".join([*parameters, *_FIXED]),
        "loads": "\n".join(
            f"  %p{index} = getelementptr i8, ptr %args, i64 {8 * index}\n  %a{index} = load {kind}, ptr %p{index}"
            for index, kind in enumerate(lane.parameters)
        ),
        "passed": ", ".join([*parameters, *_FIXED]),
        "kernel": "".join(f"{parameter}, " for parameter in parameters),
        "waves": waves,
        "done": DONE,
        "diverged": int(Failure.WAVE_DIVERGED),
        "missed": int(Failure.BARRIER_MISSED),
        "nulls": "".join(f"{kind} {_null(str(kind))}, " for kind in lane.parameters),
        "coro_end": coro_end,
        **{f"at_{name}": offset(name) for name in _FIELDS},
    }
    parts = [_RUN, _COROUTINES if lane.meets else _LOOP]
    return "\n".join([lane.text, *(part.format(**values) for part in parts)])


def _null(kind: str) -> str:
    return "null" if kind == "ptr" else "0" if kind[0] == "i" else "0.0"


_FIXED = ("ptr %ctx", "ptr %lds", "i32 %pid_x", "i32 %pid_y", "i32 %pid_z")
_FIELDS = (
    "pid", "grid", "lds", "slots", "slots_before", "points", "frames", "stride", "counter", "total", "order", "chunk",
    "error", "error_lane", "error_site", "error_other", "error_program",
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
  call void @program({passed})
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

_LOOP = """
define i64 @frame_size(ptr %out) {{
  ret i64 0
}}
define internal void @program({declared}) {{
entry:
  br label %wave
wave:
  %w = phi i32 [0, %entry], [%w_next, %wave_end]
  %start = mul nuw nsw i32 %w, 64
  br label %lanes
lanes:
  %lane = phi i32 [0, %wave], [%lane_next, %lanes]
  %tid = or i32 %start, %lane
  call void @lane({kernel}ptr %ctx, ptr %lds, i32 %tid, i32 %lane, i32 %pid_x, i32 %pid_y, i32 %pid_z)
  %lane_next = add nuw nsw i32 %lane, 1
  %more_lanes = icmp ult i32 %lane_next, 64
  br i1 %more_lanes, label %lanes, label %wave_end
wave_end:
  %w_next = add nuw nsw i32 %w, 1
  %more_waves = icmp ult i32 %w_next, {waves}
  br i1 %more_waves, label %wave, label %done
done:
  ret void
}}
"""

_COROUTINES = """
declare token @llvm.coro.id(i32, ptr, ptr, ptr)
declare i64 @llvm.coro.size.i64()
declare ptr @llvm.coro.begin(token, ptr)
declare i8 @llvm.coro.suspend(token, i1)
declare {coro_end} @llvm.coro.end(ptr, i1, token)
declare void @llvm.coro.resume(ptr)
define i64 @frame_size(ptr %out) {{
  %none = call ptr @lane({nulls}ptr null, ptr null, i32 0, i32 0, i32 0, i32 0, i32 0, ptr null, ptr %out, ptr null)
  %size = load i64, ptr %out
  ret i64 %size
}}
define internal void @program({declared}) {{
entry:
  %points_at = getelementptr i8, ptr %ctx, i64 {at_points}
  %points = load ptr, ptr %points_at
  %frames_at = getelementptr i8, ptr %ctx, i64 {at_frames}
  %frames = load ptr, ptr %frames_at
  %stride_at = getelementptr i8, ptr %ctx, i64 {at_stride}
  %stride = load i64, ptr %stride_at
  %slots_at = getelementptr i8, ptr %ctx, i64 {at_slots}
  %before_at = getelementptr i8, ptr %ctx, i64 {at_slots_before}
  %error_at = getelementptr i8, ptr %ctx, i64 {at_error}
  br label %phase
phase:
  %is_first = phi i1 [true, %entry], [false, %again]
  br label %wave
wave:
  %w = phi i32 [0, %phase], [%w_next, %wave_end]
  %returned = phi i32 [0, %phase], [%returned_now, %wave_end]
  %start = mul nuw nsw i32 %w, 64
  %first_point_at = getelementptr i32, ptr %points, i32 %start
  br i1 %is_first, label %ramp, label %resume
ramp:
  %lane = phi i32 [0, %wave], [%lane_next, %ramp]
  %tid = add i32 %start, %lane
  %tid_wide = zext i32 %tid to i64
  %frame_start = mul i64 %tid_wide, %stride
  %frame = getelementptr i8, ptr %frames, i64 %frame_start
  %point = getelementptr i32, ptr %points, i32 %tid
  %handle = call ptr @lane({kernel}ptr %ctx, ptr %lds, i32 %tid, i32 %lane, i32 %pid_x, i32 %pid_y, i32 %pid_z, ptr %frame, ptr null, ptr %point)
  %lane_next = add i32 %lane, 1
  %more_ramps = icmp ult i32 %lane_next, 64
  br i1 %more_ramps, label %ramp, label %check
resume:
  %k = phi i32 [0, %wave], [0, %swap], [%k_next, %resume]
  %k_tid = add i32 %start, %k
  %k_wide = zext i32 %k_tid to i64
  %k_start = mul i64 %k_wide, %stride
  %k_frame = getelementptr i8, ptr %frames, i64 %k_start
  call void @llvm.coro.resume(ptr %k_frame)
  %k_next = add i32 %k, 1
  %more_lanes = icmp ult i32 %k_next, 64
  br i1 %more_lanes, label %resume, label %check
check:
  %first_point = load i32, ptr %first_point_at
  br label %compare
compare:
  %c = phi i32 [0, %check], [%c_next, %compare]
  %differs = phi i32 [0, %check], [%differs_now, %compare]
  %c_at = getelementptr i32, ptr %first_point_at, i32 %c
  %c_point = load i32, ptr %c_at
  %c_xor = xor i32 %c_point, %first_point
  %differs_now = or i32 %differs, %c_xor
  %c_next = add i32 %c, 1
  %more_compares = icmp ult i32 %c_next, 64
  br i1 %more_compares, label %compare, label %compared
compared:
  %error = load i32, ptr %error_at
  %apart = icmp ne i32 %differs_now, 0
  %has_error = icmp ne i32 %error, 0
  %stops = or i1 %apart, %has_error
  br i1 %stops, label %stop, label %met
met:
  %kind = and i32 %first_point, 1
  %is_wave_point = icmp eq i32 %kind, 0
  br i1 %is_wave_point, label %swap, label %wave_end
swap:
  %slots = load ptr, ptr %slots_at
  %before = load ptr, ptr %before_at
  store ptr %before, ptr %slots_at
  store ptr %slots, ptr %before_at
  br label %resume
wave_end:
  %is_done = icmp eq i32 %first_point, {done}
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
  %last_wave_point = load i32, ptr %first_point_at
  store i32 %last_wave_point, ptr %missed_site
  %missed_other = getelementptr i8, ptr %ctx, i64 {at_error_other}
  %wave_zero_point = load i32, ptr %points
  store i32 %wave_zero_point, ptr %missed_other
  ret void
stop:
  br i1 %has_error, label %done, label %find
find:
  %f = phi i32 [0, %stop], [%f_next, %find]
  %f_at = getelementptr i32, ptr %first_point_at, i32 %f
  %f_point = load i32, ptr %f_at
  %f_same = icmp eq i32 %f_point, %first_point
  %f_next = add i32 %f, 1
  br i1 %f_same, label %find, label %found
found:
  store i32 {diverged}, ptr %error_at
  %lane_at = getelementptr i8, ptr %ctx, i64 {at_error_lane}
  %f_tid = add i32 %start, %f
  store i32 %f_tid, ptr %lane_at
  %site_at = getelementptr i8, ptr %ctx, i64 {at_error_site}
  store i32 %f_point, ptr %site_at
  %other_at = getelementptr i8, ptr %ctx, i64 {at_error_other}
  store i32 %first_point, ptr %other_at
  ret void
done:
  ret void
}}
"""
