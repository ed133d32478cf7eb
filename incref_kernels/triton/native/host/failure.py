"""What may end a run, and the code that records it."""

from enum import IntEnum

from incref_kernels.triton.native.host.context import offset

__all__ = ["FAILED", "Failure"]


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
    WRITTEN_TWICE = 5
    """Two programs stored to the same element (debug mode)."""
    SHARED_RACE = 6
    """Two lanes touched a byte of shared memory without a meeting in between (debug mode)."""
    READ_UNWRITTEN = 7
    """A load of an output that nothing was stored to (debug mode)."""
    NAN_BORN = 8
    """An operation gave NaN of operands that are none (debug mode)."""


# The first failure of a program is kept.
FAILED = f"""
define internal void @failed(ptr %ctx, i32 %kind, i32 %lane, i32 %site) {{
  call void @failed_at(ptr %ctx, i32 %kind, i32 %lane, i32 %site, i64 0, i32 0)
  ret void
}}
define internal void @failed_at(ptr %ctx, i32 %kind, i32 %lane, i32 %site, i64 %value, i32 %other) noinline {{
  %at = getelementptr i8, ptr %ctx, i64 {offset("error")}
  %old = load i32, ptr %at
  %is_first = icmp eq i32 %old, 0
  br i1 %is_first, label %record, label %done
record:
  store i32 %kind, ptr %at
  %lane_at = getelementptr i8, ptr %ctx, i64 {offset("error_lane")}
  store i32 %lane, ptr %lane_at
  %site_at = getelementptr i8, ptr %ctx, i64 {offset("error_site")}
  store i32 %site, ptr %site_at
  %value_at = getelementptr i8, ptr %ctx, i64 {offset("error_value")}
  store i64 %value, ptr %value_at
  %other_at = getelementptr i8, ptr %ctx, i64 {offset("error_other")}
  store i32 %other, ptr %other_at
  br label %done
done:
  ret void
}}
"""
