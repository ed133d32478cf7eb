"""What a worker thread shares with the code that it runs: one record, laid out once for both."""

import ctypes

__all__ = ["Context", "offset"]


class Context(ctypes.Structure):
    """The state of one worker.

    Attributes:
        pid: the program that runs, by axis.
        grid: how many programs there are, by axis. A kernel reads it where AMD's implicit arguments would be.
        lds: the program's shared memory.
        states: where each wave waits (see `host.regions`).
        frames: what the waves remember while they wait.
        counter: the next program of the launch that no worker has taken; shared by the workers.
        total: how many programs the launch has.
        order: the programs in the order in which they run, or null for ascending.
        chunk: how many programs a worker takes at once.
        extents: the first and the last address but one of each tensor, `extent_count` pairs (debug mode).
        notes: for each byte of the tensors 1 + the program that stored to it, 0 for none (debug mode).
        marks: for each byte of the tensors 1 if it holds something, else 0 (debug mode).
        shared_notes: for each byte of the shared memory who touched it last (see `host.races`; debug mode).
        phase: counts the barriers that this worker has passed.
        stretch: counts the stretches between meetings that it has run (debug mode).
        spare: where an access goes that is outside of them.
        print: the function that `tl.device_print` calls.
        error: 0, or the `host.failures.Failure` that ended the run, with where it happened.
    """

    _fields_ = (
        ("pid", ctypes.c_int32 * 3),
        ("grid", ctypes.c_int32 * 3),
        ("lds", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
        ("frames", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("total", ctypes.c_int64),
        ("order", ctypes.c_void_p),
        ("chunk", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("error_lane", ctypes.c_int32),
        ("error_site", ctypes.c_int32),
        ("error_other", ctypes.c_int32),
        ("error_value", ctypes.c_int64),
        ("error_program", ctypes.c_int32 * 3),
        ("print", ctypes.c_void_p),
        ("extents", ctypes.c_void_p),
        ("extent_count", ctypes.c_int64),
        ("notes", ctypes.c_void_p),
        ("marks", ctypes.c_void_p),
        ("shared_notes", ctypes.c_void_p),
        ("phase", ctypes.c_int32),
        ("stretch", ctypes.c_int32),
        ("spare", ctypes.c_void_p),
    )


def offset(field: str) -> int:
    """Where `field` lies in the record, in bytes."""
    found = getattr(Context, field).offset
    assert isinstance(found, int)
    return found
