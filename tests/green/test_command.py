"""`python -m verdigris script.py`: a sync program, unchanged, as the interpreter runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from conftest import CHOSEN, killed_after, python_path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(params=CHOSEN)
def loop_name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(source: str, name: str = "script.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    return write


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path(), "PYTHONWARNINGS": "error"}


def start(*arguments: object, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )
    return killed_after(90, process)


def run(*arguments: object, stdin: str = "", **options: Any) -> Done:
    """Runs a program to its end; without "-m verdigris" in front it is the interpreter's way."""
    with start(*arguments, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"it hangs: {process.communicate()}")
    return Done(arguments, process.returncode, out, err)


def green(loop: str, *arguments: object, **options: Any) -> Done:
    return run("-m", "verdigris", "--loop", loop, *arguments, **options)


def same(loop: str, *arguments: object, **options: Any) -> Done:
    """Runs a program both ways, which must print and end the same."""
    plain = run(*arguments, **options)
    done = green(loop, *arguments, **options)
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr
    assert done.stderr == plain.stderr
    return done


SHOW = """
    import sys, threading
    print(sys.argv, __name__, __file__, __package__, __spec__ and __spec__.name)
    print(sys.path[0], sys.modules["__main__"].__dict__ is globals())
    print(threading.current_thread() is threading.main_thread())
"""


def test_a_script_sees_what_it_would_see(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(SHOW)
    same(loop_name, path, "one", "--two")
    same(loop_name, path.name, "one", cwd=path.parent)


def test_a_module_sees_what_it_would_see(loop_name: str, script: Callable[..., Path]) -> None:
    script("", "package/__init__.py")
    script(SHOW, "package/__main__.py")
    path = script(SHOW, "module.py")
    same(loop_name, "-m", "module", "-x", cwd=path.parent)
    same(loop_name, "-m", "package", "-x", cwd=path.parent)
    same(loop_name, path.parent / "package", "-x")


def test_code_and_standard_input_are_programs_too(loop_name: str) -> None:
    show = textwrap.dedent(SHOW).replace("__file__", "0")
    same(loop_name, "-c", show, "one")
    same(loop_name, "-", "one", stdin=show)


def test_standard_input_can_be_read(loop_name: str, script: Callable[..., Path]) -> None:
    same(loop_name, script("print(input(), open(0).read())"), stdin="first\nrest\n")


@pytest.mark.parametrize(
    "end",
    ["", "sys.exit()", "sys.exit(3)", "sys.exit('text')", "sys.exit((1, 2))", "raise SystemExit",
     "sys.exit(True)", "raise SystemExit(-1)"],
)  # fmt: skip
def test_exit_codes(script: Callable[..., Path], end: str) -> None:
    same("asyncio", script(f"import sys, atexit\natexit.register(print, 'bye')\nprint(1)\n{end}"))


FAILING = """
    def inner():
        raise ValueError("wrong")
    def outer():
        try:
            inner()
        except ValueError as error:
            raise KeyError("outer") from error
    outer()
"""


def test_a_traceback_shows_the_program_and_nothing_of_ours(
    loop_name: str, script: Callable[..., Path]
) -> None:
    done = same(loop_name, script(FAILING))
    assert done.returncode == 1 and "wrong" in done.stderr


def test_a_syntax_error_is_shown_as_ever(script: Callable[..., Path]) -> None:
    assert "SyntaxError" in same("asyncio", script("def f(:\n")).stderr


def test_excepthook_is_called(script: Callable[..., Path]) -> None:
    same(
        "asyncio",
        script("import sys\nsys.excepthook = lambda *args: print(args[:2])\nraise ValueError(1)"),
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["no_such.py"], "can't open file"),
        (["-m", "no_such_module"], "No module named no_such_module"),
        (["-m", "urllib"], "'urllib' is a package and cannot be directly executed"),
        (["-m", "no_such.module"], "No module named 'no_such'"),
    ],
)
def test_what_is_not_there_is_told_as_ever(arguments: list[str], text: str, tmp_path: Path) -> None:
    plain = run(*arguments, cwd=tmp_path)
    done = green("asyncio", *arguments, cwd=tmp_path)
    assert done.returncode == plain.returncode
    assert text in done.stderr and text in plain.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--loop"], ["--loop", "asyncio"], ["-m"], ["-c"], ["--wrong", "x.py"], ["doctor", "x"]],
)
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    done = run("-m", "verdigris", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: ") and not done.stdout


def test_a_loop_that_is_not_known_is_told(script: Callable[..., Path]) -> None:
    done = green("curio", script("print(1)"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no loop 'curio'; choose from asyncio, uvloop, trio" in done.stderr


def test_threads_are_joined_and_daemons_are_not(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import atexit, threading, time
        from concurrent.futures import ThreadPoolExecutor
        atexit.register(print, "atexit")
        def work(name, seconds):
            time.sleep(seconds)
            print(name)
        threading.Thread(target=work, args=("thread", 0.2)).start()
        threading.Thread(target=work, args=("daemon", 600), daemon=True).start()
        ThreadPoolExecutor().submit(work, "pool", 0.4)
        print("main ends")
        """
    )
    assert same(loop_name, path).stdout.split() == ["main", "ends", "thread", "pool", "atexit"]


def test_sleeping_threads_sleep_at_once_on_a_loop(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import threading, time
        order = []
        def work(seconds):
            time.sleep(seconds)
            order.append(seconds)
        threads = [threading.Thread(target=work, args=(s / 5,)) for s in (3, 1, 2, 0)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert order == sorted(order), order
        """
    )
    assert green(loop_name, path).returncode == 0


INTERRUPTED = {
    "while it waits": "time.sleep(600)",
    "while it computes": "while True: pass",
}


@pytest.mark.parametrize("line", INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_ctrl_c_ends_the_program_as_ever(
    loop_name: str, script: Callable[..., Path], line: str
) -> None:
    path = script(
        f"""
        import atexit, time
        atexit.register(print, "atexit", flush=True)
        try:
            print("ready", flush=True)
            {line}
        finally:
            print("finally", flush=True)
        """
    )
    for arguments in ([path], ["-m", "verdigris", "--loop", loop_name, path]):
        with start(*arguments) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT
        assert out == "finally\natexit\n"
        assert err.startswith("Traceback") and err.endswith("KeyboardInterrupt\n")
        assert "verdigris/_" not in err and "asyncio/" not in err and "trio/" not in err


def test_ctrl_c_can_be_caught_more_than_once(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(
        """
        import time
        time.sleep(0.01)  # what is imported for it, is now
        for _ in range(3):
            try:
                print("ready", flush=True)
                time.sleep(600)
            except KeyboardInterrupt:
                print("caught", flush=True)
        time.sleep(0.01)
        import sys
        if "trio" not in sys.modules:
            import asyncio
            assert not asyncio.current_task().cancelling()
        """
    )
    with start("-m", "verdigris", "--loop", loop_name, path) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "caught\n"
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_ctrl_c_that_comes_just_before_the_loop_waits(script: Callable[..., Path]) -> None:
    path = script(
        """
        import operator, time
        from functools import partial
        from verdigris import get_original
        interrupt_main = get_original("_thread", "interrupt_main")
        selector = get_original("selectors", "EpollSelector")
        select, is_next = selector.select, False

        def racing(self, timeout=None):
            global is_next
            if is_next and (timeout is None or timeout > 100):
                is_next = False
                epoll = getattr(self._selector, "_epoll", self._selector)
                # One after the other in C, where nobody looks for signals.
                list(map(operator.call, [interrupt_main, partial(epoll.poll, timeout)]))
                timeout = 0
            return select(self, timeout)

        selector.select = racing
        time.sleep(0.01)
        is_next = True
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            print("caught", is_next)
        """
    )
    done = green("asyncio", path)
    assert (done.stdout, done.stderr) == ("caught False\n", "")


HANDLERS = {
    "while it waits": "time.sleep(600)",
    "while it computes": "while True: pass",
    "while another computes": "threading.Thread(target=compute).start(); time.sleep(600)",
    "in a loop of its own": "asyncio.run(asyncio.sleep(600))",
}


@pytest.mark.one_loop_in_a_cell
@pytest.mark.parametrize("line", HANDLERS.values(), ids=HANDLERS.keys())
def test_what_a_signal_handler_raises_is_the_main_functions(
    loop_name: str, script: Callable[..., Path], line: str
) -> None:
    # The usual way to put a limit on anything in a sync program.
    path = script(
        f"""
        import asyncio, signal, threading, time

        class TooLong(Exception):
            pass

        def handler(number, frame):
            raise TooLong(number)

        def compute():
            # Gives nobody a turn meanwhile.
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert signal.signal(signal.SIGALRM, handler) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGALRM) is handler
        for _ in range(2):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                {line}
            except TooLong as error:
                print("caught", error.args)
        time.sleep(0.01)
        assert signal.signal(signal.SIGALRM, signal.SIG_DFL) is handler
        """
    )
    same(loop_name, path)


def test_a_signal_handler_that_returns_ends_no_wait(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import signal, threading

        ended = threading.Event()
        signal.signal(signal.SIGALRM, lambda number, frame: print("called"))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        threading.Timer(0.2, ended.set).start()
        print(ended.wait(60))
        """
    )
    assert same(loop_name, path).stdout == "called\nTrue\n"


INNER = {
    "run": "print(asyncio.run(main()))",
    "Runner": "with asyncio.Runner() as runner: print(runner.run(main()), runner.run(main()))",
    "new_event_loop": """
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(main()), loop.run_until_complete(main()))
        loop.close()""",
    "run_forever": """
        loop = asyncio.new_event_loop()
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        loop.close()""",
}


def test_what_needs_a_thread_in_a_loop_of_the_programs_own(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import asyncio, socket, ssl

        async def main():
            ssl.create_default_context()
            try:
                await asyncio.sleep(0)
                socket.getaddrinfo("localhost", "no such service")
            except OSError as error:
                print(type(error))
            return socket.getaddrinfo("127.0.0.1", 80)[0][4]

        print(asyncio.run(main()))
        """
    )
    same(loop_name, path)


def test_a_signal_to_a_thread(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(
        """
        import signal, threading
        signal.signal(signal.SIGUSR1, lambda number, frame: print("called"))
        main = threading.get_ident()
        signal.pthread_kill(main, signal.SIGUSR1)
        thread = threading.Thread(target=lambda: signal.pthread_kill(main, signal.SIGUSR1))
        thread.start()
        thread.join()
        """
    )
    assert same(loop_name, path).stdout == "called\ncalled\n"


def test_a_thread_that_interrupts_the_main_one_as_it_begins(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import _thread, threading
        thread = threading.Thread(target=_thread.interrupt_main)
        try:
            thread.start()
            thread.join()
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        print(thread.is_alive())
        """
    )
    assert same(loop_name, path).stdout == "interrupted\nFalse\n"


def test_signals_reach_the_programs_own_loop(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(
        """
        import asyncio, os, signal, subprocess

        async def main():
            loop = asyncio.get_running_loop()
            got = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, got.set)
            for _ in range(5):
                # It comes while the loop waits.
                child = subprocess.Popen(["sh", "-c", f"sleep 0.05; kill -USR1 {os.getpid()}"])
                await asyncio.wait_for(got.wait(), 20)
                got.clear()
                child.wait()
            print("got all")

        asyncio.run(main())
        """
    )
    same(loop_name, path)


def test_signals_that_sync_code_added_to_a_loop(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import asyncio, os, signal

        async def main():
            got.clear()
            os.kill(os.getpid(), signal.SIGUSR1)  # It comes while the loop computes.
            await asyncio.wait_for(got.wait(), 20)

        loop = asyncio.new_event_loop()
        got = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.set)
        for _ in range(3):
            loop.run_until_complete(main())
        loop.close()
        print("got all")
        """
    )
    same(loop_name, path)


def test_sync_code_sees_no_running_loop(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(
        """
        import asyncio
        from asyncio import events

        async def main():
            return asyncio.get_running_loop() is events.get_running_loop()

        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            print(error, asyncio.run(main()))
        """
    )
    same(loop_name, path)


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_the_program_runs_loops_of_its_own(
    loop_name: str, script: Callable[..., Path], inner: str
) -> None:
    path = script(
        f"""
        import asyncio, threading, time
        async def tick():
            await asyncio.sleep(0)
            return asyncio.current_task().get_name()
        async def main():
            async with asyncio.timeout(30):
                return await asyncio.gather(*(asyncio.create_task(tick(), name=n) for n in "ab"))
        {textwrap.dedent(inner).replace(chr(10), chr(10) + " " * 8)}
        time.sleep(0.01)
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start(); thread.join()
        """
    )
    same(loop_name, path)


def test_a_loop_in_a_loop_of_the_program_is_refused_as_ever(script: Callable[..., Path]) -> None:
    same(
        "asyncio",
        script(
            """
            import asyncio
            async def main():
                inner = asyncio.sleep(0)
                try:
                    asyncio.run(inner)
                except RuntimeError as error:
                    print(error)
                inner.close()
            asyncio.run(main())
            """
        ),
    )


def test_the_program_runs_uvloop_and_trio_by_itself(script: Callable[..., Path]) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    pytest.importorskip("trio", reason="trio is not installed")
    path = script(
        """
        import asyncio, trio, uvloop
        async def main():
            await asyncio.sleep(0.01)
            return type(asyncio.get_running_loop()).__module__
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(main()))
        print(trio.run(trio.sleep, 0.01))
        """
    )
    for loop in ("asyncio", "uvloop", "trio"):
        same(loop, path)


def test_ctrl_c_reaches_the_loop_of_the_program(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import asyncio
        async def main():
            print("ready", flush=True)
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("caught")
        """
    )
    with start("-m", "verdigris", "--loop", loop_name, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("cancelled\ncaught\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("end", ["sys.exit(5)", "raise ValueError('text')", "pass"])
def test_the_child_of_a_fork_goes_on_and_ends_as_ever(
    loop_name: str, script: Callable[..., Path], end: str
) -> None:
    path = script(
        f"""
        import asyncio, atexit, os, sys, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        atexit.register(lambda: print("atexit", flush=True))
        child = os.fork()
        if child:
            print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            sys.exit()
        async def main():
            await asyncio.sleep(0.01)
            print("a loop of its own")
        asyncio.run(main())
        threading.Timer(0.1, print, ("thread",)).start()
        time.sleep(0.01)
        print("child ends")
        {end}
        """
    )
    said = same(loop_name, path).stdout.splitlines()
    assert said[:4] == ["a loop of its own", "child ends", "thread", "atexit"]


def test_a_thread_that_forks_is_all_that_its_child_has(
    loop_name: str, script: Callable[..., Path]
) -> None:
    path = script(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def work():
            child = os.fork()
            if child:
                print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            else:
                printed = threading.Event()
                def later():
                    printed.wait()
                    print("the child's thread ends", flush=True)
                threading.Thread(target=later).start()
                time.sleep(0.01)
                print("who forked ends", len(threading.enumerate()), flush=True)
                printed.set()
        threading.Thread(target=time.sleep, args=(0.2,)).start()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("joined", flush=True)
        """
    )
    said = same(loop_name, path).stdout.splitlines()
    assert said == ["who forked ends 2", "the child's thread ends", "exit code 0", "joined"]


def test_the_echo_program_with_threads_runs_unchanged(loop_name: str) -> None:
    done = same(loop_name, EXAMPLES / "echo_threads.py")
    assert done.stdout.count("Got back echo response") == 5
    assert "verdigris" not in (EXAMPLES / "echo_threads.py").read_text(encoding="utf-8")


def test_psycopg_3_is_patched_when_the_program_imports_it(script: Callable[..., Path]) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    done = green("asyncio", script("import psycopg\nprint(psycopg.waiting.wait.__module__)"))
    assert done.stdout == "verdigris._psycopg3_wait\n", done.stderr


def test_the_console_script_is_the_same_command() -> None:
    import tomllib

    from verdigris.__main__ import main

    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"verdigris": f"{main.__module__}:main"}


def test_the_main_thread_is_one(loop_name: str, script: Callable[..., Path]) -> None:
    path = script(
        """
        import threading
        main = threading.main_thread()
        print(threading.current_thread() is main, threading.enumerate() == [main])
        print(threading.active_count())
        """
    )
    assert green(loop_name, path).stdout == "True True\n1\n"
