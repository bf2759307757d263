from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastslow.interruption import InterruptedRunError, Interruption, waiting

HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""As Python starts with them in a terminal."""


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """A shell starts what it puts into the background with SIGINT ignored, tests too."""
    before = handlers()
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in Interruption.SIGNALS}


@pytest.mark.parametrize("number", Interruption.SIGNALS)
def test_the_first_signal_waits_until_it_is_asked_for(number: signal.Signals) -> None:
    with Interruption() as interruption:
        interruption.check()
        send(number)  # nothing is raised here
        for _ in range(2):
            with pytest.raises(InterruptedRunError, match=f"^stopped by {number.name}$") as caught:
                interruption.check()
    assert caught.value.exit_code == 130


@pytest.mark.parametrize("first", Interruption.SIGNALS)
def test_the_second_signal_acts_at_once(first: signal.Signals) -> None:
    with Interruption():
        send(first)
        assert handlers() == HANDLERS
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_it_listens_only_while_it_is_entered() -> None:
    with Interruption():
        assert handlers() != HANDLERS
    assert handlers() == HANDLERS
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_what_is_raised_inside_gives_the_signals_back() -> None:
    with pytest.raises(ValueError, match="inside"), Interruption():
        raise ValueError("inside")
    assert handlers() == HANDLERS


def test_a_handler_of_the_callers_own_comes_back() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("own"))
    try:
        with Interruption() as interruption:
            send(signal.SIGTERM)
            assert not heard
            send(signal.SIGTERM)
            with pytest.raises(InterruptedRunError):
                interruption.check()
        send(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, HANDLERS[signal.SIGTERM])
    assert heard == ["own", "own"]


def test_outside_the_main_thread_it_never_raises() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Interruption() as interruption:
                interruption.check()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert handlers() == HANDLERS


@pytest.mark.parametrize("number", Interruption.SIGNALS)
def test_who_waits_is_broken_off(number: signal.Signals) -> None:
    def wait(seconds: float) -> None:
        with waiting():
            time.sleep(seconds)

    started = time.monotonic()
    with Interruption():
        threading.Timer(0.2, send, [number]).start()
        for _ in range(2):  # the second wait is not begun
            with pytest.raises(InterruptedRunError, match=f"^stopped by {number.name}$"):
                wait(30)
        assert time.monotonic() - started < 25  # a wait takes 30


def test_a_wait_swallows_no_signal_that_its_library_caught() -> None:
    """Libraries of servers turn whatever is raised in them into errors of their own."""

    def request() -> None:
        with waiting():
            try:
                send(signal.SIGTERM)
            except InterruptedRunError:
                raise ConnectionError("the request broke off") from None

    with Interruption() as interruption:
        with pytest.raises(ConnectionError):
            request()
        with pytest.raises(InterruptedRunError):
            interruption.check()


def test_a_signal_after_a_wait_is_only_noted() -> None:
    with Interruption() as interruption:
        with waiting():
            pass
        send(signal.SIGINT)
        with pytest.raises(InterruptedRunError):
            interruption.check()


def test_who_waits_where_nobody_listens_is_left_alone() -> None:
    with waiting(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    with Interruption():
        found: list[str] = []

        def elsewhere() -> None:
            with waiting():
                found.append("waited")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert found == ["waited"]
