"""Calls that can be suspended in the midst of a model, and go on later."""

import contextvars
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, TypeVar

import torch

__all__ = ["SuspendableCall"]

T = TypeVar("T")

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "hpu", "mps")


class _AbandonedError(BaseException):
    """Ends a call that is not to go on; no `except Exception` keeps it."""


class SuspendableCall(Generic[T]):
    """A call that anything beneath it can suspend.

    It has a thread of its own, for its frames; that runs only while `go_on` waits for it, so nothing happens at the
    same time. What PyTorch keeps by thread (grad and inference mode, autocast, the default device, the device and its
    stream) is in that thread what it was where this was made, and so are context variables.

    Attributes:
        is_over: whether the call has ended, by whatever means.
        result: what it returned.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        """Prepare to call `function`."""
        self.is_over = False
        self.result: T | None = None
        self._function: Callable[[], T] | None = function
        self._context, self._state = contextvars.copy_context(), _ThreadState()
        self._thread: threading.Thread | None = None
        self._has_turn, self._is_abandoned = False, False
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def go_on(self) -> bool:
        """Start the call, or let it go on, and wait until it is suspended or over; give whether it is over.

        Raises:
            RuntimeError: if there can be no more threads.
            BaseException: what the call raises.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._context.run, args=(self._work,), daemon=True)
            self._has_turn = True
            try:
                thread.start()
            except RuntimeError:
                self.is_over = True
                raise
            self._thread = thread
        else:
            self._give(to_call=True)
        self._wait(for_call=False)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self.is_over

    def suspend(self) -> None:
        """Let the caller of `go_on` go on; to be called beneath the call that is to be suspended."""
        if not self._is_abandoned:
            self._give(to_call=False)
            self._wait(for_call=True)
        if self._is_abandoned:
            raise _AbandonedError

    def abandon(self) -> None:
        """End the call where it is suspended, by an exception there, and wait until it is over."""
        self._is_abandoned = True
        if self._thread is not None:
            # If it has the turn, something interrupted `go_on`.
            self._give(to_call=True)
            self._thread.join()
        self.is_over, self._function, self._error, self.result = True, None, None, None

    def _work(self) -> None:
        function, self._function = self._function, None
        try:
            assert function is not None
            with self._state.entered():
                self.result = function()
        except _AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001  # it is raised where `go_on` waits
            self._error = error
        finally:
            del function
            self.is_over = True
            self._give(to_call=False)

    def _give(self, *, to_call: bool) -> None:
        with self._changed:
            self._has_turn = to_call
            self._changed.notify_all()

    def _wait(self, *, for_call: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_turn is for_call or (for_call and self._is_abandoned))


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
