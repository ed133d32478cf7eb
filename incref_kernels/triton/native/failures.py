"""What ended a run, told with the kernel, the program and the line."""

from collections.abc import Sequence

from incref_kernels.triton.native.extents import Extent, KernelError, nearest
from incref_kernels.triton.native.host.context import Context
from incref_kernels.triton.native.host.failure import Failure
from incref_kernels.triton.native.host.segments import Site
from incref_kernels.triton.native.host.waves import DONE

__all__ = ["KernelError", "explain"]


def explain(kernel: str, sites: Sequence[Site], context: Context, extents: Sequence[Extent]) -> KernelError:
    """Describe the failure that `context` records."""
    failure, site = Failure(context.error), context.error_site
    program = f"kernel {kernel}, program {tuple(context.error_program)}"
    if failure is Failure.WAVE_DIVERGED:
        return KernelError(
            f"{program}: the lanes of the wave that starts at lane {context.error_lane} "
            "wait for each other at different places"
        )
    if failure is Failure.BARRIER_MISSED:
        here, there = _point(sites, site), _point(sites, context.error_other)
        return KernelError(
            f"{program}: not all waves reach the same barrier: the first wave is at {there}, the last one at {here}"
        )
    what = _what(failure, sites[site].what, context, extents)
    of_lane = failure not in (Failure.WRITTEN_TWICE, Failure.SHARED_RACE)
    lane = f", lane {context.error_lane}" if of_lane else ""
    return KernelError(f"{program}{lane}: {what}, at {sites[site].line}")


def _what(failure: Failure, what: str, context: Context, extents: Sequence[Extent]) -> str:
    """Say what happened at a place of one lane; `what` is what the place does."""
    match failure:
        case Failure.ASSERTION:
            text = what or "a trap"
        case Failure.OUT_OF_BOUNDS:
            text = f"{what} out of bounds: {nearest(extents, context.error_value)}"
        case Failure.WRITTEN_TWICE:
            other = _program(context.error_other, context)
            text = f"{what} to what program {other} stored to: {nearest(extents, context.error_value)}"
        case Failure.SHARED_RACE:
            text = (
                f"lanes {context.error_lane} and {context.error_other} touch byte {context.error_value} "
                f"of shared memory without a barrier in between: {what}"
            )
        case Failure.READ_UNWRITTEN:
            text = f"{what} before anything was stored there: {nearest(extents, context.error_value)}"
        case Failure.NAN_BORN:
            text = f"{what} gives NaN of operands that are none"
        case _:
            raise AssertionError(failure)
    return text


def _program(number: int, context: Context) -> tuple[int, int, int]:
    columns, rows = context.grid[0], context.grid[1]
    return number % columns, number // columns % rows, number // columns // rows


def _point(sites: Sequence[Site], point: int) -> str:
    if point == DONE:
        return "its end"
    site = sites[point // 2 - 1]
    return f"{site.what}, {site.line}"
