import contextvars
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from incref.calibration.suspendable import SuspendableCall


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

    def interrupt(*, for_call: bool) -> None:
        assert not for_call
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(call, "_wait", interrupt)
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
