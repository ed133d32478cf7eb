"""Calls that can be suspended in the midst of a model, and go on later."""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

__all__ = ["SuspendableCall", "go_on_in_rows"]

T = TypeVar("T")

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "hpu", "mps")


class _AbandonedError(BaseException):
    """Ends a call that is not to go on; no `except Exception` keeps it."""


class SuspendableCall(Generic[T]):
    """A call that anything beneath it can suspend.

    It has a thread of its own, for its frames, which runs only from `resume` on until the call is suspended or over.
    What PyTorch keeps by thread (grad and inference mode, autocast, the default device, the device and its stream) is
    in that thread what it was where this was made, and so are context variables.

    Attributes:
        is_over: whether the call has ended, by whatever means.
        result: what it returned.
        error: what it raised.
    """

    def __init__(self, function: Callable[[], T], *, threads: int | None = None) -> None:
        """Prepare to call `function`.

        Args:
            function: the call.
            threads: how many threads of PyTorch it has; None for as many as there are where this is made.
        """
        self.is_over = False
        self._threads = threads or torch.get_num_threads()
        self.result: T | None = None
        self._function: Callable[[], T] | None = function
        self._context, self._state = contextvars.copy_context(), _ThreadState()
        self._thread: threading.Thread | None = None
        self._is_abandoned = False
        # Plain locks, as what wakes another thread sooner.
        self._turn = threading.Lock()
        self._turn.acquire()
        self._then: Callable[[], None] | None = None
        self.error: BaseException | None = None

    def go_on(self) -> bool:
        """Start the call, or let it go on, and wait until it is suspended or over; give whether it is over.

        Raises:
            RuntimeError: if there can be no more threads.
            BaseException: what the call raises.
        """
        go_on_in_rows([[self]])
        return self.is_over

    def resume(self, then: Callable[[], None]) -> None:
        """Start the call, or let it go on, and return at once.

        Args:
            then: called in the thread of the call when it is suspended or over.

        Raises:
            RuntimeError: if there can be no more threads.
        """
        self._then = then
        if self._thread is not None:
            self._turn.release()
            return
        thread = threading.Thread(target=self._context.run, args=(self._work,), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self.is_over = True
            raise
        self._thread = thread

    def suspend(self) -> None:
        """Let others go on; to be called beneath the call that is to be suspended."""
        if not self._is_abandoned:
            self._pause()
            self._turn.acquire()
        if self._is_abandoned:
            raise _AbandonedError

    def abandon(self) -> None:
        """End the call where it is suspended, by an exception there, and wait until it is over."""
        self._is_abandoned = True
        if self._thread is not None:
            # If it runs, something interrupted who waits for it.
            if self._turn.locked():
                self._turn.release()
            self._thread.join()
        self.is_over, self._function, self.error, self.result = True, None, None, None

    def join(self) -> None:
        """Wait until the thread of a call that is over has ended, too."""
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        function, self._function = self._function, None
        try:
            assert function is not None
            # To ask makes a new thread take the number of all; later that would undo what is set here.
            torch.get_num_threads()
            torch.set_num_threads(self._threads)
            with self._state.entered():
                self.result = function()
        except _AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001  # it is raised where others wait
            self.error = error
        finally:
            del function
            self.is_over = True
            self._pause()

    def _pause(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


def go_on_in_rows(rows: Sequence[Sequence[SuspendableCall[Any]]]) -> None:
    """Let the calls of every row go on one after another, and all rows at the same time, until none is running.

    Raises:
        RuntimeError: if there can be no more threads.
        BaseException: what a call raises; no other one goes on after that.
    """
    threads, going = torch.get_num_threads(), _Going()
    try:
        for row in rows:
            going.let_next(iter(row))
        found = [going.over.get() for _ in rows]
    finally:
        going.has_ended.set()
        # A thread that sets its number of threads sets that of threads to come, too.
        torch.set_num_threads(threads)
    for call in (call for row in rows for call in row):
        if call.is_over:
            call.join()
    for error in found:
        if error is not None:
            raise error


class _Going:
    """Calls of some rows, while they go on.

    Attributes:
        over: gets what the last call of each row raised, or None.
        has_ended: whether no more calls are to go on.
    """

    def __init__(self) -> None:
        """Start with no row."""
        self.over: SimpleQueue[BaseException | None] = SimpleQueue()
        self.has_ended = threading.Event()

    def let_next(self, row: Iterator[SuspendableCall[Any]]) -> None:
        """Let the next call of a row go on. The one before it does that itself, so that its thread wakes only one."""
        call = None if self.has_ended.is_set() else next(row, None)
        if call is None:
            self.over.put(None)
            return
        try:
            call.resume(lambda: self._after(call, row))
        except RuntimeError as error:
            self._end(error)

    def _after(self, call: SuspendableCall[Any], row: Iterator[SuspendableCall[Any]]) -> None:
        error, call.error = call.error, None
        if error is None:
            self.let_next(row)
        else:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        self.has_ended.set()
        self.over.put(error)


class _ThreadState:
    """What PyTorch keeps by thread."""

    def __init__(self) -> None:
        """Look it up in this thread."""
        self._has_grad, self._is_inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self._autocast = {
            name: torch.get_autocast_dtype(name) for name in _AUTOCAST_DEVICES if torch.is_autocast_enabled(name)
        }
        self._caches_casts = torch.is_autocast_cache_enabled()
        self._device = torch.get_default_device()
        # Asking an accelerator that nobody has used would start it.
        is_used = getattr(torch.get_device_module(), "is_initialized", None)
        uses_accelerator = torch.accelerator.is_available() and is_used is not None and is_used()
        self._stream = torch.accelerator.current_stream() if uses_accelerator else None

    def entered(self) -> ExitStack:
        """Make it so in this thread, which has none of it yet."""
        with ExitStack() as stack:
            if self._stream is not None:
                # The device comes with it.
                torch.accelerator.set_stream(self._stream)
            stack.enter_context(torch.inference_mode(self._is_inference))
            stack.enter_context(torch.set_grad_enabled(self._has_grad))
            if self._device.type != "cpu":
                stack.enter_context(self._device)
            for name, dtype in self._autocast.items():
                stack.enter_context(torch.autocast(name, dtype=dtype, cache_enabled=self._caches_casts))
            return stack.pop_all()
        raise AssertionError
