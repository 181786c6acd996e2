"""What `signal` and `time` say to one thread, where green ones share a thread of the system.

In processes of their own: a number that the system takes for the address of a thread may end one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

START = """
import sys
from verdigris import async_def, get_original, patch_all
patch_all()
import faulthandler, signal, threading, time
from conftest import LOOPS
from green.together import together

def mask_of_the_thread():
    return get_original("signal", "pthread_sigmask")(signal.SIG_BLOCK, ())

def in_green_thread(function):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(function()))
    thread.start()
    thread.join()
    return outcome[0]

def refused(error, function, *args):
    try:
        function(*args)
    except error as refusal:
        return str(refusal)
    raise AssertionError("not refused")
"""

END = """
faulthandler.dump_traceback_later(30, exit=True)
together(LOOPS[sys.argv[1]](), work)
print("ended")
"""


@pytest.fixture
def run(loop: Any, python: Any) -> Callable[[str], None]:
    """Runs `work` of a program green on a loop."""

    def run(source: str) -> None:
        done: CompletedProcess[str] = python(START + textwrap.dedent(source) + END, loop.name)
        assert (done.stdout, done.stderr) == ("ended\n", "")

    return run


def test_the_mask_of_a_green_thread_is_its_own(run: Any) -> None:
    run(
        """
        def masks():
            before = mask_of_the_thread()
            first = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            second = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, 1])
            third = signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM, signal.SIGKILL})
            fourth = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert mask_of_the_thread() == before
            return first, second, third, fourth

        def work():
            before = mask_of_the_thread()
            never = {signal.SIGKILL, signal.SIGSTOP}
            first, second, third, fourth = in_green_thread(masks)
            assert first == before
            assert second == signal.valid_signals() - never
            assert third == second - {signal.SIGINT, signal.SIGHUP}
            assert fourth == {signal.SIGTERM}
            assert {type(one) for one in fourth} == {signal.Signals}
            assert in_green_thread(masks)[0] == before
            # The function is no thread, and asks for its loop's.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
            assert mask_of_the_thread() == before | {signal.SIGUSR2}
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        """
    )


def test_a_mask_that_is_none_is_refused_as_the_stdlib_does(run: Any) -> None:
    run(
        """
        def refusals():
            mask = signal.pthread_sigmask
            return [
                refused(OSError, mask, 99, [signal.SIGINT]),
                refused(ValueError, mask, signal.SIG_BLOCK, [999]),
                refused(ValueError, mask, signal.SIG_BLOCK, [0]),
                refused(TypeError, mask, signal.SIG_BLOCK, 5),
                refused(TypeError, mask, signal.SIG_BLOCK, ["x"]),
                refused(TypeError, mask, "x", [signal.SIGINT]),
            ]

        def work():
            assert in_green_thread(refusals) == refusals()
        """
    )


def test_connections_that_are_sent_leave_signals_to_the_loop(run: Any) -> None:
    """`multiprocessing.resource_sharer` blocks all signals in the thread that it starts."""
    run(
        """
        import multiprocessing.resource_sharer, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run

        def sends_on(outer):
            inner, other = context.Pipe()
            outer.send(inner)
            other.send("sent on")
            assert outer.recv() == "come"

        context = multiprocessing.get_context("fork")

        def work():
            before = mask_of_the_thread()
            ours, theirs = context.Pipe()
            thread = threading.Thread(target=sends_on, args=(theirs,))
            thread.start()
            received = ours.recv()
            assert received.recv() == "sent on"
            ours.send("come")
            thread.join()
            assert mask_of_the_thread() == before
            child = context.Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            assert child.exitcode == -signal.SIGTERM
            multiprocessing.resource_sharer.stop()
        """
    )


def test_a_signal_to_a_function_or_a_green_thread(run: Any) -> None:
    run(
        """
        def work():
            called = []
            signal.signal(signal.SIGUSR1, lambda number, frame: called.append(number))
            me = threading.get_ident()
            assert me != get_original("threading", "get_ident")()
            signal.pthread_kill(me, signal.SIGUSR1)
            in_green_thread(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
            waits = threading.Thread(target=time.sleep, args=(0.05,))
            waits.start()
            signal.pthread_kill(waits.ident, 0)
            signal.pthread_kill(waits.ident, signal.SIGUSR1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            waits.join()
            assert called == [signal.SIGUSR1] * 4, called
            for over in (waits.ident, 12345):
                assert "No such process" in refused(
                    ProcessLookupError, signal.pthread_kill, over, signal.SIGUSR1
                )
        """
    )


def test_the_clock_of_a_thread(run: Any) -> None:
    run(
        """
        def clock():
            return time.pthread_getcpuclockid(threading.get_ident())

        def work():
            ident = get_original("threading", "get_ident")()
            of_the_thread = get_original("time", "pthread_getcpuclockid")(ident)
            assert clock() == in_green_thread(clock) == of_the_thread
            assert time.clock_gettime(clock()) > 0
            refused(ProcessLookupError, time.pthread_getcpuclockid, 12345)
        """
    )
