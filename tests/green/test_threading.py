"""Green threads: functions of the loop that `threading` takes for threads."""

from __future__ import annotations

import _thread as _stdlib_thread
import asyncio
import contextvars
import gc
import sys
import threading as stdlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from verdigris import async_def, await_, spawn
from verdigris.green import _thread as green_thread_module
from verdigris.green import _wait
from verdigris.green import threading as green_threading

threading: Any = green_threading
_thread: Any = green_thread_module

os_thread = stdlib.get_ident


def green(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `threading.excepthook` was called with: type, text, name of the thread."""
    seen: list[Any] = []

    def hook(args: Any) -> None:
        seen.append((args.exc_type, str(args.exc_value), args.thread and args.thread.name))

    monkeypatch.setattr(stdlib, "excepthook", hook)
    return seen


def never() -> None:
    _wait.sleep(3600)


# --- where a thread runs -----------------------------------------------------


def test_runs_beside_its_starter_in_the_same_os_thread(loop: Any) -> None:
    log: list[Any] = []

    def work(number: int) -> None:
        log.append(("begins", number, os_thread()))
        _wait.sleep(0.01)
        log.append(("ends", number, os_thread()))

    def main() -> None:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    green(loop, main)
    assert sorted(log[:3]) == [("begins", n, os_thread()) for n in range(3)]
    assert sorted(log[3:]) == [("ends", n, os_thread()) for n in range(3)]


def test_is_an_os_thread_where_nothing_runs_green(loop: Any) -> None:
    seen: list[Any] = []

    def main() -> None:
        def work() -> None:
            seen.append((os_thread(), threading.get_ident(), threading.current_thread()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        seen[-1] += (thread,)

    main()

    async def plain() -> None:
        main()

    loop.run(plain)
    for ident, green_ident, current, thread in seen:
        assert ident == green_ident != os_thread()
        assert current is thread


def test_a_waiting_thread_leaves_the_loop_free(loop: Any) -> None:
    async def main() -> int:
        beats = 0
        async with loop.tasks() as start:

            def work() -> None:
                thread = threading.Thread(target=_wait.sleep, args=(0.1,))
                thread.start()
                thread.join()

            task = start(async_def, work)
            while not task.ended.is_set():
                await loop.sleep(0.001)
                beats += 1
        return beats

    assert loop.run(main) > 5


def test_starting_many(loop: Any) -> None:
    done: list[int] = []

    def main() -> None:
        threads = [threading.Thread(target=done.append, args=(n,)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    green(loop, main)
    assert sorted(done) == list(range(50))


# --- what a Thread tells -----------------------------------------------------


def test_identities_and_names(loop: Any) -> None:
    def work() -> tuple[Any, ...]:
        current = threading.current_thread()
        return current, current.name, current.ident, threading.get_ident(), _thread.get_ident()

    def main() -> None:
        seen: list[Any] = []
        threads = [
            threading.Thread(target=lambda: seen.append(work()), name=f"worker {n}")
            for n in range(2)
        ]
        for thread in threads:
            assert thread.ident is None and not thread.is_alive()
            thread.start()
        for thread in threads:
            thread.join()
            assert not thread.is_alive()
        assert [s[0] for s in seen] == threads
        assert [s[1] for s in seen] == ["worker 0", "worker 1"]
        for thread, (_, _, *idents) in zip(threads, seen, strict=True):
            assert idents == [thread.ident] * 3
            assert thread.ident not in (os_thread(), threading.get_ident())
            assert thread.native_id == stdlib.get_native_id()

    green(loop, main)


def test_enumerate_lists_it_while_it_lives(loop: Any) -> None:
    def main() -> None:
        event = threading.Event()
        threading.current_thread()  # makes the dummy of this function
        before = threading.active_count()
        thread = threading.Thread(target=event.wait)
        thread.start()
        assert thread in threading.enumerate() and thread in stdlib.enumerate()
        assert threading.active_count() == before + 1
        event.set()
        thread.join()
        assert thread not in threading.enumerate()

    green(loop, main)


@pytest.mark.parametrize("daemon", [True, False, None])
def test_daemon(loop: Any, daemon: bool | None) -> None:
    def main() -> None:
        thread = threading.Thread(target=never, daemon=daemon)
        assert thread.daemon is bool(daemon)
        thread.start()
        with pytest.raises(RuntimeError, match="daemon status"):
            thread.daemon = True

    green(loop, main)


def test_main_thread_is_the_interpreters(loop: Any) -> None:
    assert threading.main_thread() is stdlib.main_thread()
    assert threading.current_thread() is stdlib.main_thread()
    assert green(loop, lambda: threading.current_thread()) is not stdlib.main_thread()


def test_a_script_may_be_the_main_thread(loop: Any) -> None:
    def main() -> None:
        with green_threading._as_main_thread():
            assert threading.current_thread() is threading.main_thread()
            assert threading.main_thread().ident == threading.get_ident()

    green(loop, main)
    assert stdlib.main_thread().ident == os_thread()
    assert stdlib.current_thread() is stdlib.main_thread()


def test_other_green_functions_have_a_dummy_that_does_not_leak(loop: Any) -> None:
    seen: list[Any] = []

    def work() -> None:
        dummy = threading.current_thread()
        assert dummy is threading.current_thread() and dummy in threading.enumerate()
        assert isinstance(dummy, stdlib.Thread) and dummy.is_alive()
        assert dummy.ident == threading.get_ident()
        with pytest.raises((RuntimeError, AssertionError), match="dummy"):
            dummy.join()
        seen.append((dummy.name, dummy.ident))

    async def main() -> None:
        task = spawn(work)
        await task
        assert seen[0][0] == task.name

    loop.run(main)
    gc.collect()
    assert seen[0][1] not in stdlib._active  # type: ignore[attr-defined]


# --- waiting for its end -----------------------------------------------------


def test_join_gives_up_when_its_time_is_over(loop: Any) -> None:
    def main() -> None:
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        thread.join(0.01)
        assert thread.is_alive()
        thread.join(-1)
        assert thread.is_alive()
        event.set()
        thread.join(10)
        assert not thread.is_alive()
        thread.join()

    green(loop, main)


def test_joined_from_an_os_thread(loop: Any) -> None:
    def main() -> None:
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        joiner = stdlib.Thread(target=thread.join)
        joiner.start()
        _wait.sleep(0.02)
        assert joiner.is_alive()
        event.set()
        _wait.offload(joiner.join)
        assert not thread.is_alive()

    green(loop, main)


def test_an_os_thread_is_joined_without_blocking_the_loop(loop: Any) -> None:
    async def main() -> int:
        beats = 0
        stop = stdlib.Event()
        # Started by plain code: an OS thread.
        thread = threading.Thread(target=stop.wait)
        thread.start()
        async with loop.tasks() as start:
            joins = [start(async_def, thread.join) for _ in range(3)]
            with_timeout = start(async_def, lambda: (thread.join(0.01), thread.is_alive()))
            while beats < 20:
                await loop.sleep(0.001)
                beats += 1
            assert not any(task.ended.is_set() for task in joins)
            stop.set()
        assert not thread.is_alive()
        assert with_timeout.outcome.value == (None, True)
        assert [task.outcome.error for task in joins] == [None] * 3
        return beats

    assert loop.run(main) == 20


def test_a_join_that_would_stop_its_loop_is_refused(loop: Any) -> None:
    def start() -> Any:
        thread = threading.Thread(target=never)
        thread.start()
        return thread

    async def main() -> None:
        thread = await async_def(start)
        with pytest.raises(RuntimeError, match="cannot join a green thread from here"):
            thread.join()
        thread.join(0.01)
        assert thread.is_alive()

    loop.run(main)


def test_misuse_is_refused_as_the_stdlib_does(loop: Any) -> None:
    def main() -> None:
        thread = threading.Thread(target=lambda: None)
        with pytest.raises(RuntimeError, match="before it is started"):
            thread.join()
        thread.start()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        errors: list[Any] = []

        def joins_itself() -> None:
            with pytest.raises(RuntimeError, match="cannot join current thread"):
                threading.current_thread().join()
            errors.append(True)

        thread = threading.Thread(target=joins_itself)
        thread.start()
        thread.join()
        assert errors

    green(loop, main)


# --- how it ends -------------------------------------------------------------


def test_an_exception_goes_to_the_hook(loop: Any, reports: list[Any]) -> None:
    def fails() -> None:
        raise ValueError("text")

    def main() -> None:
        thread = threading.Thread(target=fails, name="failing")
        thread.start()
        thread.join()

    green(loop, main)
    assert reports == [(ValueError, "text", "failing")]


def test_a_hook_of_the_green_module_comes_first(
    loop: Any, reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own: list[Any] = []
    monkeypatch.setattr(green_threading, "excepthook", lambda args: own.append(args.exc_type))

    def main() -> None:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    green(loop, main)
    assert own == [ZeroDivisionError] and reports == []


@pytest.mark.parametrize("end", [sys.exit, _thread.exit])
def test_system_exit_ends_it_silently(loop: Any, reports: list[Any], end: Any, capfd: Any) -> None:
    def main() -> None:
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        _thread.start_new_thread(end, ())

    green(loop, main)
    # The default hook is who ignores it.
    assert [kind for kind, *_ in reports] == [SystemExit]
    assert capfd.readouterr().err == ""


def test_the_end_of_the_run_ends_it_quietly(loop: Any, reports: list[Any], capfd: Any) -> None:
    steps: list[str] = []
    started: list[Any] = []

    def work() -> None:
        try:
            steps.append("begins")
            never()
        finally:
            steps.append("ends")

    def main() -> None:
        started.append(threading.Thread(target=work))
        started[0].start()

    green(loop, main)
    assert steps == ["begins", "ends"]
    assert not started[0].is_alive()
    started[0].join()
    assert started[0] not in stdlib.enumerate()
    assert reports == [] and capfd.readouterr().err == ""


def test_a_cancelled_start_leaves_no_half_of_a_thread(loop: Any) -> None:
    async def main() -> None:
        async with loop.tasks() as start:
            thread = threading.Thread(target=never)
            task = start(async_def, thread.start)
            task.cancel()
            await task.wait()
        assert thread.is_alive() is (thread in stdlib.enumerate())
        assert thread not in stdlib._limbo  # type: ignore[attr-defined]

    loop.run(main)


def test_a_function_that_is_cancelled_can_start_threads(loop: Any) -> None:
    """Many a library says goodbye in one. On Trio each of its own waits is cancelled by then."""
    ran: list[int] = []

    def work(number: int) -> None:
        try:
            _wait.sleep(30)
        finally:
            threading.Thread(target=ran.append, args=(number,)).start()

    async def main() -> None:
        for number in range(20):
            async with loop.tasks() as start:
                task = start(async_def, work, number)
                await loop.sleep(0.001)
                task.cancel()
                assert (await task.wait()).cancelled

    loop.run(main)
    assert ran == list(range(20))


def test_a_cancelled_joiner_leaves_the_thread_alone(loop: Any) -> None:
    async def main() -> None:
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        await async_def(thread.start)
        async with loop.tasks() as start:
            task = start(async_def, thread.join)
            await loop.sleep(0.01)
            task.cancel()
            assert (await task.wait()).cancelled
        assert thread.is_alive()
        event.set()
        await async_def(thread.join)

    loop.run(main)


# --- the context -------------------------------------------------------------

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


def test_begins_with_an_empty_context(loop: Any) -> None:
    inherits = getattr(sys.flags, "thread_inherit_context", False)

    def main() -> None:
        seen: list[str] = []
        var.set("the starter's")

        def work() -> None:
            seen.append(var.get())
            var.set("the thread's")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == ["the starter's" if inherits else "unset"]
        assert var.get() == "the starter's"

    green(loop, main)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Thread(context=) is of 3.14")
def test_runs_in_the_context_it_is_given(loop: Any) -> None:
    def main() -> None:
        seen: list[str] = []
        context = contextvars.Context()
        context.run(var.set, "given")

        def work() -> None:
            _wait.sleep(0.001)
            seen.append(var.get())

        thread = threading.Thread(target=work, context=context)
        thread.start()
        thread.join()
        assert seen == ["given"]

    green(loop, main)


# --- _thread -----------------------------------------------------------------


def test_low_level_threads(loop: Any) -> None:
    def main() -> None:
        done = _thread.allocate_lock()
        done.acquire()
        seen: list[Any] = []

        def work(*args: Any, **kwargs: Any) -> None:
            seen.append((args, kwargs, _thread.get_ident()))
            done.release()

        ident = _thread.start_new_thread(work, (1,), {"a": 2})
        done.acquire()
        assert seen == [((1,), {"a": 2}, ident)]

    green(loop, main)


@pytest.mark.parametrize("args", [(None, ()), (print, []), (print, (), 3)])
def test_low_level_threads_check_their_arguments(loop: Any, args: Any) -> None:
    with pytest.raises(TypeError) as of_stdlib:
        _stdlib_thread.start_new_thread(*args)
    with pytest.raises(TypeError) as of_green:
        green(loop, _thread.start_new_thread, *args)
    assert str(of_green.value) == str(of_stdlib.value)


def test_an_exception_of_a_low_level_thread_is_unraisable(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda a: seen.append((a.exc_type, a.err_msg, a.object))
    )

    def fails() -> None:
        raise ValueError

    green(loop, _thread.start_new_thread, fails, ())
    _stdlib_thread.start_new_thread(fails, ())
    while len(seen) < 2:
        time.sleep(0.001)
    assert seen[0] == seen[1] and seen[0][0] is ValueError


def test_count(loop: Any) -> None:
    def main() -> None:
        event, before = threading.Event(), _thread._count()
        thread = threading.Thread(target=event.wait)
        thread.start()
        assert _thread._count() == before + 1
        event.set()
        thread.join()
        assert _thread._count() == before

    green(loop, main)


# --- Timer, hooks ------------------------------------------------------------


def test_timer(loop: Any) -> None:
    def main() -> None:
        seen: list[Any] = []
        timer = threading.Timer(0.01, seen.append, (1,))
        cancelled = threading.Timer(0.01, seen.append, (2,))
        timer.start()
        cancelled.start()
        cancelled.cancel()
        timer.join()
        cancelled.join()
        assert seen == [1]

    green(loop, main)


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_hooks_are_for_os_threads(loop: Any, kind: str) -> None:
    """A green thread is traced with the OS thread that it runs in, or not at all."""
    seen: list[str] = []

    def hook(frame: Any, event: str, arg: object) -> None:
        seen.append(frame.f_code.co_name)

    def work() -> None:
        _wait.sleep(0.001)

    def main() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    set_, get = getattr(threading, f"set{kind}"), getattr(threading, f"get{kind}")
    before, traced = get(), getattr(sys, f"get{kind}")()
    set_(hook)
    try:
        assert getattr(stdlib, f"get{kind}")() is hook
        green(loop, main)
        assert seen == [] and getattr(sys, f"get{kind}")() is traced
        main()
        assert "work" in seen
    finally:
        set_(before)


# --- in place, and at the end of the interpreter -----------------------------

PATCH = """
import _thread, asyncio, concurrent.futures.thread, gc, logging, queue, sys, threading
from verdigris import async_def, await_, loops
from verdigris.green import _thread as g1, _twin, _wait, queue as g3, threading as g2
from verdigris.green.concurrent.futures import thread as g4

def patch():
    loops.current()  # imports what it needs while the import locks are still the stdlib's
    _twin.patch(_thread, g1.REPLACED)
    _twin.patch(threading, g2.REPLACED, g2.METHODS)
    _twin.patch(queue, g3.REPLACED)
    _twin.patch(concurrent.futures.thread, g4.REPLACED, g4.METHODS)

def run(function):
    async def main():
        await async_def(function)
    if sys.argv[1] == "trio":
        import trio
        trio.run(main)
    else:
        asyncio.run(main())
"""

LOOPS = pytest.mark.parametrize("name", ["asyncio", "trio"])


def in_place(python: Any, name: str, body: str) -> str:
    done = python(PATCH + body, name, options=("-W", "error"))
    assert done.stderr == ""
    return str(done.stdout)


@LOOPS
def test_patched_in_place_logging_shows_the_name(python: Any, name: str) -> None:
    body = """
def main():
    patch()
    logging.basicConfig(stream=sys.stdout, format="%(threadName)s: %(message)s")
    def work():
        assert threading.get_ident() == threading.current_thread().ident
        assert threading.get_ident() != main_ident
        _wait.sleep(0.001)
        logging.warning("hello")
    main_ident = threading.get_ident()
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    assert not thread.is_alive() and thread not in threading.enumerate()
run(main)
"""
    assert in_place(python, name, body) == "worker: hello\n"


@LOOPS
def test_patched_in_place_os_threads_go_on(python: Any, name: str) -> None:
    body = """
before, event = threading.Thread(target=lambda: event.wait()), threading.Event()
before.start()
def main():
    patch()
    green = threading.Thread(target=lambda: (_wait.sleep(0.01), event.set()))
    green.start()
    before.join()
    green.join()
run(main)
def work():
    print(threading.current_thread().name, threading.get_native_id() != native)
native = threading.get_native_id()
after = threading.Thread(target=work, name="after")
after.start()
after.join()
gc.collect()
assert threading.enumerate() == [threading.main_thread()]
"""
    assert in_place(python, name, body) == "after True\n"


def test_patched_in_place_to_thread_stays_real(python: Any) -> None:
    body = """
def main():
    patch()
    print(await_(asyncio.to_thread(threading.get_native_id)) != threading.get_native_id())
run(main)
"""
    assert in_place(python, "asyncio", body) == "True\n"


@pytest.mark.parametrize("how", ["join", "exit"])
def test_a_loop_that_was_closed_over_its_threads(python: Any, how: str) -> None:
    """Nothing hangs, and nothing is said: it is a thread, and no task of the program's."""
    body = f"""
threads = []
async def main():
    def start():
        for daemon in (True, False):
            threads.append(g2.Thread(target=_wait.sleep, args=(3600,), daemon=daemon))
            threads[-1].start()
    await async_def(start)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
if "{how}" == "join":
    for thread in threads:
        thread.join()
        print(thread.is_alive())
"""
    expected = "False\nFalse\n" if how == "join" else ""
    assert in_place(python, "asyncio", body) == expected


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_in_a_green_thread(python: Any) -> None:
    body = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
def forks():
    pid = os.fork()
    if not pid:
        try:
            assert g2.current_thread() is not None
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            os._exit(7)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
def main():
    beside = g2.Thread(target=_wait.sleep, args=(3600,))
    beside.start()
    thread = g2.Thread(target=forks)
    thread.start()
    thread.join()
run(main)
"""
    assert in_place(python, "asyncio", body) == "7\n"


def test_asyncio_tasks_of_a_thread_are_its_loops(aio: Any) -> None:
    async def twice(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    def main() -> list[int]:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(await_(twice(21))))
        thread.start()
        thread.join()
        return seen

    assert green(aio, main) == [42]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of 3.12")
def test_started_under_an_eager_task_factory() -> None:
    """On asyncio's own loop: uvloop and 3.13.0's factory don't fit."""
    order: list[str] = []

    def work() -> None:
        order.append("thread")
        _wait.sleep(0.001)
        order.append(threading.current_thread().name)

    def start() -> None:
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        order.append("starter")
        thread.join()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
        await async_def(start)

    asyncio.run(main())
    assert order == ["thread", "starter", "worker"]


def test_ctrl_c_in_a_green_thread_ends_the_run(aio: Any, reports: list[Any]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def main() -> None:
        thread = threading.Thread(target=interrupted)
        thread.start()
        thread.join()
        _wait.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        green(aio, main)
    assert reports == []


SWALLOWS = """
import queue, sys, threading, time
count = 0

def worker(get):
    global count
    while True:
        try:
            get()()
        except:
            count += 1  # of whatever

def work():
    jobs, done = queue.Queue(), threading.Event()
    threading.Thread(target=worker, args=(jobs.get,), daemon=True).start()
    threading.Thread(target=worker, args=(lambda: time.sleep(100),), daemon=True).start()
    jobs.put(done.set)
    assert done.wait(30)
    print("end of main")
"""


def test_a_daemon_that_swallows_its_cancellation_is_left_behind(python: Any, loop: Any) -> None:
    """Nobody waits for a daemon thread at the end, whatever it does."""
    done = python(
        """
from verdigris import async_def, patch_all
patch_all()
from conftest import LOOPS
"""
        + SWALLOWS
        + """
LOOPS[sys.argv[1]]().run(async_def, work)
assert count, count
print("ended")
""",
        loop.name,
    )
    assert (done.stdout, done.stderr) == ("end of main\nended\n", "")


def test_a_daemon_of_a_program_that_swallows_its_cancellation_is_left_behind(
    python: Any, loop: Any, tmp_path: Any
) -> None:
    program = tmp_path / "swallows.py"
    program.write_text(SWALLOWS + "work()\n")
    done = python(
        f"""
        import runpy, sys
        sys.argv[:] = ["verdigris", "--loop", {loop.name!r}, {str(program)!r}]
        runpy.run_module("verdigris", run_name="__main__")
        """
    )
    assert (done.stdout, done.stderr) == ("end of main\n", "")


def test_a_daemon_may_say_goodbye_when_its_loop_ends(python: Any, loop: Any) -> None:
    """For a while: on asyncio also in waits, on Trio in shielded ones."""
    done = python(
        """
        import contextlib, sys, threading, time
        from verdigris import async_def, patch_all
        patch_all()
        from conftest import LOOPS
        loop = LOOPS[sys.argv[1]]()

        def shielded():
            if loop.name != "trio":
                return contextlib.nullcontext()
            import trio
            return trio.CancelScope(shield=True)

        def worker(begun, goodbye):
            try:
                begun.set()
                time.sleep(100)
            finally:
                with shielded():
                    time.sleep(0.05)
                    goodbye.acquire(timeout=0.05)
                print("goodbye")

        def work():
            begun, goodbye = threading.Event(), threading.Lock()
            goodbye.acquire()
            threading.Thread(target=worker, args=(begun, goodbye), daemon=True).start()
            begun.wait()

        loop.run(async_def, work)
        print("ended")
        """,
        loop.name,
    )
    assert (done.stdout, done.stderr) == ("goodbye\nended\n", "")
