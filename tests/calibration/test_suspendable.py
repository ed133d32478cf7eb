import contextvars
import queue
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from incref.calibration import suspendable
from incref.calibration.suspendable import SuspendableCall, go_on_in_rows


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_calls_take_turns() -> None:
    seen: list[str] = []
    calls: list[SuspendableCall[str]] = []

    def function(name: str) -> str:
        for number in range(3):
            seen.append(f"{name}{number}")
            calls["ab".index(name)].suspend()
        return name

    calls += [SuspendableCall(lambda name=name: function(name)) for name in "ab"]  # type: ignore[misc]  # mypy takes name for an argument
    assert not seen
    for _ in range(3):
        for call in calls:
            call.go_on()
            assert not call.is_over
    assert seen == ["a0", "b0", "a1", "b1", "a2", "b2"]
    for call in calls:
        call.go_on()
    assert [call.result for call in calls] == ["a", "b"]
    assert all(call.is_over for call in calls)
    for call in calls:
        call.abandon()


def test_rows_of_calls_go_on_at_the_same_time() -> None:
    both = threading.Barrier(2)
    seen: list[str] = []
    calls: dict[str, SuspendableCall[None]] = {}

    def function(name: str) -> None:
        # Nobody passes unless a call of the other row is there, too.
        both.wait(timeout=30)
        seen.append(name)
        calls[name].suspend()
        both.wait(timeout=30)
        seen.append(name.upper())

    for name in "abcd":
        calls[name] = SuspendableCall(partial(function, name), threads=1)
    rows = [[calls["a"], calls["b"]], [calls["c"], calls["d"]]]
    for want in ("abcd", "ABCD"):
        go_on_in_rows(rows)
        assert sorted(seen) == list(want)
        for row in ("ab", "cd"):
            found = [name for name in seen if name.lower() in row]
            assert found == sorted(found)
        seen.clear()
    assert all(call.is_over for call in calls.values())


def test_after_an_error_no_call_of_a_row_goes_on() -> None:
    seen: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    failing, next_one = SuspendableCall(fail), SuspendableCall(lambda: seen.append("went on"))
    with pytest.raises(ZeroDivisionError):
        go_on_in_rows([[failing, next_one]])
    assert failing.is_over
    assert not next_one.is_over
    assert not seen


@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_has_threads_of_its_own(threads: int) -> None:
    before = torch.get_num_threads()
    found: list[int] = []

    def function() -> None:
        call.suspend()
        # What runs in parallel looks the number up.
        torch.ones(1 << 20).add_(1)
        found.append(torch.get_num_threads())

    call = SuspendableCall(function, threads=threads)
    call.go_on()
    call.go_on()
    assert found == [threads]
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found[1:] == [before] == [torch.get_num_threads()]


def test_what_a_call_raises_is_raised_where_it_goes_on() -> None:
    def function() -> None:
        call.suspend()
        raise KeyboardInterrupt

    call = SuspendableCall(function)
    call.go_on()
    with pytest.raises(KeyboardInterrupt):
        call.go_on()
    assert call.is_over


def test_an_abandoned_call_ends_where_it_is() -> None:
    seen: list[str] = []

    def function() -> None:
        try:
            call.suspend()
        except Exception:  # noqa: BLE001  # as careless as a block may be
            seen.append("kept")
        finally:
            seen.append("cleaned up")
        seen.append("went on")

    call = SuspendableCall(function)
    call.go_on()
    call.abandon()
    assert call.is_over
    assert seen == ["cleaned up"]
    never_started = SuspendableCall(function)
    never_started.abandon()
    assert never_started.is_over
    assert seen == ["cleaned up"]


def test_a_call_that_runs_while_its_caller_is_interrupted_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def function() -> None:
        time.sleep(0.1)
        call.suspend()
        raise AssertionError

    call = SuspendableCall(function)

    class Interrupted(queue.SimpleQueue[object]):
        def get(self, *_: object, **__: object) -> object:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(suspendable, "SimpleQueue", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            call.go_on()
    call.abandon()
    assert call.is_over


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        del thread
        raise RuntimeError("can't start new thread")

    call = SuspendableCall(lambda: 1)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        call.go_on()
    call.abandon()


VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


def state() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None,
        torch.get_default_device(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        VARIABLE.get(),
    )


def test_the_thread_is_as_the_one_that_made_the_call() -> None:
    plain = state()
    token = VARIABLE.set(3)
    try:
        with torch.inference_mode():
            assert_same_state()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16), torch.device("meta"):
            assert_same_state()
        with torch.no_grad():
            assert_same_state()
        assert_same_state()
    finally:
        VARIABLE.reset(token)
    assert state() == plain


def assert_same_state() -> None:
    call = SuspendableCall(state)
    call.go_on()
    assert call.result == state()
    assert call.result is not None
    assert call.result[-1] == 3
