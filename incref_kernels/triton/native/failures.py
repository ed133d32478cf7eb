"""What ended a run, told with the kernel, the program and the line."""

from collections.abc import Sequence

from incref.errors import IncrefError
from incref_kernels.triton.native.extents import Extent, nearest
from incref_kernels.triton.native.host.context import Context
from incref_kernels.triton.native.host.failure import Failure
from incref_kernels.triton.native.host.segments import Site
from incref_kernels.triton.native.host.waves import DONE

__all__ = ["KernelError", "explain"]


class KernelError(IncrefError, RuntimeError):
    """A kernel did what no GPU would take well; the message says what, where, and in which program."""


def explain(kernel: str, sites: Sequence[Site], context: Context, extents: Sequence[Extent]) -> KernelError:
    """Describe the failure that `context` records."""
    failure = Failure(context.error)
    program = tuple(context.error_program)
    head = f"kernel {kernel}, program {program}"
    match failure:
        case Failure.WAVE_DIVERGED:
            return KernelError(
                f"{head}: the lanes of the wave that starts at lane {context.error_lane} "
                "wait for each other at different places"
            )
        case Failure.BARRIER_MISSED:
            here, there = _point(sites, context.error_site), _point(sites, context.error_other)
            return KernelError(
                f"{head}: not all waves reach the same barrier: the first wave is at {there}, the last one at {here}"
            )
        case Failure.ASSERTION:
            site = sites[context.error_site]
            return KernelError(f"{head}, lane {context.error_lane}: {site.what or 'a trap'}, at {site.line}")
        case Failure.OUT_OF_BOUNDS:
            site = sites[context.error_site]
            where = nearest(extents, context.error_value)
            return KernelError(f"{head}, lane {context.error_lane}: {site.what} out of bounds: {where}, at {site.line}")
        case Failure.WRITTEN_TWICE:
            site = sites[context.error_site]
            where = nearest(extents, context.error_value)
            other = _program(context.error_other, context)
            return KernelError(f"{head}: {site.what} to what program {other} stored to: {where}, at {site.line}")
        case Failure.SHARED_RACE:
            site = sites[context.error_site]
            return KernelError(
                f"{head}: lanes {context.error_lane} and {context.error_other} touch byte {context.error_value} "
                f"of shared memory without a barrier in between: {site.what}, at {site.line}"
            )
    raise AssertionError(failure)


def _program(number: int, context: Context) -> tuple[int, int, int]:
    columns, rows = context.grid[0], context.grid[1]
    return number % columns, number // columns % rows, number // columns // rows


def _point(sites: Sequence[Site], point: int) -> str:
    if point == DONE:
        return "its end"
    site = sites[point // 2 - 1]
    return f"{site.what}, {site.line}"
