"""The pytest plugin: what pytest promises about a test holds for one that runs on a loop.

Each suite runs in a process of its own, on asyncio, uvloop and Trio.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from typing import Any, Protocol, TextIO

import pytest
from conftest import CHOSEN, LOOPS, python_alone, python_path

pytest_plugins = "pytester"
pytestmark = [pytest.mark.one_loop_in_a_cell, python_alone]

# For all suites: the same wait on each loop.
WAITS = """
import sys

from verdigris import await_, can_await, spawn


def trio_runs():
    return "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task()


def wait(seconds=0.001):
    if trio_runs():
        import trio
        await_(trio.sleep(seconds))
    else:
        import asyncio
        await_(asyncio.sleep(seconds))


def spin():
    while True:
        pass


def task():
    if trio_runs():
        import trio
        return trio.lowlevel.current_task()
    import asyncio
    return asyncio.current_task()
"""


class Suite(Protocol):
    def __call__(
        self, source: str, *args: str, stdin: TextIO | None = None, **files: str
    ) -> pytest.RunResult: ...


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Runs tests in a process of their own, with this plugin and those that are named."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *args: str, stdin: TextIO | None = None, **files: str) -> pytest.RunResult:
        source = "from waits import *\n" + textwrap.dedent(source)
        pytester.makepyfile(waits=WAITS, test_it=source, **files)
        return pytester.run(
            *(sys.executable, "-X", "faulthandler", "-m", "pytest"),
            *("-p", "verdigris.pytest", "-p", "no:cacheprovider", "-W", "error", *args),
            timeout=60,
            stdin=stdin or pytester.CLOSE_STDIN,
        )

    return run


@pytest.fixture(params=CHOSEN)
def on(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """The options for each loop, with which all sync tests run green."""
    LOOPS[request.param]()  # skips if it is not installed
    return ("--green", "--green-loop", request.param)


def lines_of(result: pytest.RunResult, prefix: str) -> list[str]:
    return [line for line in result.outlines if line.startswith(prefix)]


# --- what runs green ---------------------------------------------------------


def test_marked_tests_run_green_and_others_do_not(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import pytest

        @pytest.mark.green
        def test_green():
            wait()

        def test_other():
            assert not can_await()
        """,
        *on[1:],
    )
    result.assert_outcomes(passed=2)


def test_all_sync_tests_run_green_but_those_that_are_excepted(
    suite: Suite, on: tuple[str, ...]
) -> None:
    result = suite(
        """
        import pytest

        def test_green(green_loop):
            wait()
            assert trio_runs() == (green_loop == "trio")

        @pytest.mark.no_green
        def test_other():
            assert not can_await()
        """,
        *on,
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"green: all sync tests on {on[2]}"])


def test_settings_do_what_the_options_do(suite: Suite, pytester: pytest.Pytester) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    pytester.makeini("[pytest]\ngreen = true\ngreen_patch = true\ngreen_loop = asyncio trio\n")
    result = suite(
        """
        from time import sleep
        from verdigris import get_original

        def test():
            wait()
            assert sleep is not get_original("time", "sleep")
        """
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["green: all sync tests on asyncio, trio, standard library patched"]
    )


def test_unittest_and_classic_setup_run_green(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import unittest

        def setup_module(): wait()
        def teardown_module(): wait(); print("module")

        class Case(unittest.TestCase):
            @classmethod
            def setUpClass(cls): wait()
            @classmethod
            def tearDownClass(cls): wait(); print("class")
            def setUp(self): wait(); self.addCleanup(wait)
            def tearDown(self): wait(); print("case")
            def test(self):
                for n in range(2):
                    with self.subTest(n=n):
                        wait()

        class TestPlain:
            def setup_method(self): wait()
            def teardown_method(self): wait(); print("method")
            def test(self): wait()
        """,
        *(*on, "-s"),
    )
    result.assert_outcomes(passed=2)
    for what in ("module", "class", "case", "method"):
        result.stdout.fnmatch_lines([f"*{what}"])


def test_doctests_run_green(suite: Suite, on: tuple[str, ...]) -> None:
    source = "def double(number):\n    'x\\n\\n>>> import waits; waits.wait()'"
    result = suite("", *on, "--doctest-modules", "them.py", them=source)
    result.assert_outcomes(passed=1)


# --- fixtures ----------------------------------------------------------------


def test_fixtures_of_all_scopes_share_task_and_context_with_the_test(
    suite: Suite, on: tuple[str, ...]
) -> None:
    result = suite(
        """
        import contextvars
        import pytest

        var = contextvars.ContextVar("var")
        tasks = []

        def note():
            wait()
            tasks.append(task())

        def make(scope):
            @pytest.fixture(scope=scope)
            def fixture():
                note()
                var.set(scope)
                yield scope
                note()
                print("end", scope, var.get(), len(set(tasks)))
            return fixture

        session, package, module, class_, function = map(
            make, ["session", "package", "module", "class", "function"]
        )

        def test_one(session, package, module, class_, function, tmp_path):
            note()
            assert var.get() == "function"
            var.set("test_one")

        def test_two(session, function):
            note()
            var.set("test_two")
            assert len(set(tasks)) == 1
        """,
        *(*on, "-s"),
    )
    result.assert_outcomes(passed=2)
    ends = [line[line.index("end") :] for line in result.outlines if "end " in line]
    assert ends == [
        "end function test_one 1",
        "end class test_one 1",
        "end function test_two 1",
        "end module test_two 1",
        "end package test_two 1",
        "end session test_two 1",
    ]


def test_finalizers_of_requests_may_wait(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture(scope="session")
        def wide(request):
            request.addfinalizer(lambda: (wait(), print("wide")))

        def test(wide, request):
            request.addfinalizer(lambda: (wait(), print("near")))
            assert request.getfixturevalue("late") is None

        @pytest.fixture
        def late():
            wait()
            yield
            wait()
            print("late")
        """,
        *(*on, "-s"),
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*late", "near", "wide"])


def test_a_task_that_a_wide_fixture_starts_outlives_the_test(
    suite: Suite, on: tuple[str, ...]
) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture(scope="module")
        def counter():
            counts = []
            def count():
                while True:
                    spawn(wait, 0)
                    counts.append(1)
                    wait()
            task = spawn(count)
            yield counts
            assert not task.done()
            task.cancel()

        @pytest.mark.parametrize("n", [1, 2])
        def test(counter, n):
            before = len(counter)
            while len(counter) < before + 3:
                wait()
        """,
        *on,
    )
    result.assert_outcomes(passed=2)


def test_errors_in_fixtures_are_errors_of_the_test(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture
        def bad():
            wait()
            raise ValueError("in setup")

        @pytest.fixture
        def late():
            yield
            wait()
            raise ValueError("in teardown")

        def test_setup(bad): pass
        def test_teardown(late): wait()
        def test_good(): wait()
        """,
        *on,
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["E * ValueError: in setup", "E * ValueError: in teardown"])
    result.stdout.no_fnmatch_line("*verdigris/pytest*")


def test_a_fixture_first_asked_for_elsewhere_is_set_up_elsewhere(
    suite: Suite, on: tuple[str, ...]
) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture(scope="session")
        def wide():
            return can_await()

        @pytest.mark.no_green
        def test_first(wide): assert not wide
        def test_second(wide): assert not wide
        """,
        *on,
    )
    result.assert_outcomes(passed=2)


# --- what pytest promises ----------------------------------------------------


def test_what_comes_with_pytest_works(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import logging, os, warnings
        import pytest

        def test_fixtures(tmp_path, monkeypatch, capsys, caplog, recwarn):
            monkeypatch.setenv("SOME", "thing")
            wait()
            print("out")
            logging.warning("logged")
            assert capsys.readouterr().out == "out\\n" and "logged" in caplog.text
            assert os.environ["SOME"] == "thing"
            with pytest.warns(UserWarning):
                wait()
                warnings.warn("this", UserWarning)
            with pytest.raises(ZeroDivisionError):
                wait()
                1 / 0

        def test_skip(): wait(); pytest.skip("why not")
        @pytest.mark.skip
        def test_skipped(): assert 0
        @pytest.mark.xfail(strict=True)
        def test_xfail(): wait(); assert 0
        def test_fail(): wait(); pytest.fail("told to")
        @pytest.mark.parametrize("n", [1, 2])
        def test_parametrised(n): wait()
        def test_output(): print("printed"); wait(); assert 0
        """,
        *on,
    )
    result.assert_outcomes(passed=3, skipped=2, xfailed=1, failed=2)
    result.stdout.fnmatch_lines(["E * Failed: told to", "*Captured stdout call*", "printed"])


def test_a_failure_shows_the_test_and_nothing_of_the_loop(
    suite: Suite, on: tuple[str, ...]
) -> None:
    result = suite(
        """
        def deeper(value):
            wait()
            assert value == 2

        def test_it():
            value = 1
            deeper(value)
        """,
        *on,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it.py:9: *", "E  *assert 1 == 2", "test_it.py:5: *"])
    for path in ("*verdigris/*", "*asyncio/*", "*trio/_*"):
        result.stdout.no_fnmatch_line(path)


def test_the_run_stops_after_the_first_failure(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def wide():
            yield
            wait()
            print("wide has ended")

        def test_one(): wait(); assert 0
        def test_two(): wait()
        """,
        *(*on, "-x", "-s"),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wide has ended"])


def test_the_debugger_stops_in_the_test(
    suite: Suite, on: tuple[str, ...], pytester: pytest.Pytester
) -> None:
    pytester.makefile(".txt", commands="p value * 7\nwait()\np 'wai' + 'ted'\nc\np value * 7\nq")
    with (pytester.path / "commands.txt").open() as commands:
        result = suite(
            """
            def test_trace():
                value = 6
                breakpoint()
                wait()

            def test_post_mortem():
                value = 7
                wait()
                assert value == 6
            """,
            *(*on, "--pdb"),
            stdin=commands,
        )
    result.stdout.fnmatch_lines(["*42", "*waited*", "*49"])


def test_an_exception_that_nobody_sees_fails_the_test(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import gc

        class Bad:
            def __del__(self):
                raise ValueError("unseen")

        def test_bad():
            wait()
            Bad()
            gc.collect()

        def test_good(): wait()
        """,
        *on,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*PytestUnraisableExceptionWarning*"])


# --- Ctrl-C, and what else interrupts ----------------------------------------

INTERRUPT = """
import os, signal, threading
import pytest

@pytest.fixture(scope="session")
def wide():
    yield
    wait()
    print("wide has ended")

@pytest.fixture
def near(wide):
    yield
    wait()
    print("near has ended")

def interrupt(number=signal.SIGINT):
    threading.Timer(0.2, os.kill, [os.getpid(), number]).start()
"""


@pytest.mark.parametrize("what", ["wait(1000)", "spin()"])
def test_ctrl_c_ends_a_test_that_hangs(suite: Suite, on: tuple[str, ...], what: str) -> None:
    result = suite(
        INTERRUPT
        + textwrap.dedent(f"""
        def test_it(near):
            interrupt()
            try:
                {what}
            finally:
                wait()
                print("finally")

        def test_next():
            print("next")
        """),
        *(*on, "-s"),
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*finally", "near has ended", "wide has ended", "*.py:*: KeyboardInterrupt"]
    )
    result.stdout.no_fnmatch_line("next")
    # It says where the program waited, and not how the loop does.
    (line,) = [line for line in result.outlines if line.endswith(": KeyboardInterrupt")]
    assert "waits.py" in line or "test_it.py" in line


def test_ctrl_c_ends_a_fixture_that_hangs(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        INTERRUPT
        + textwrap.dedent("""
        @pytest.fixture
        def stuck(near):
            interrupt()
            wait(1000)

        def test_it(stuck): pass
        """),
        *(*on, "-s"),
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*near has ended", "wide has ended"])


def test_what_the_handler_of_a_signal_raises_fails_the_test(
    suite: Suite, on: tuple[str, ...]
) -> None:
    """So do plugins for timeouts."""
    result = suite(
        INTERRUPT
        + textwrap.dedent("""
        def test_late(near):
            def handler(number, frame):
                pytest.fail("too late")
            signal.signal(signal.SIGALRM, handler)
            interrupt(signal.SIGALRM)
            try:
                wait(1000)
            finally:
                wait()
                print("finally")

        def test_next(near):
            wait()
        """),
        *(*on, "-s"),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*finally", "*near has ended", "E * Failed: too late"])


# --- tasks -------------------------------------------------------------------


def test_tasks_left_behind_are_cancelled_and_named(suite: Suite, on: tuple[str, ...]) -> None:
    source = """
        ended = []

        def forever():
            try:
                wait(1000)
            finally:
                wait if trio_runs() else wait()
                ended.append(1)

        def test_leaks(): spawn(forever); wait()
        def test_next(): assert ended == [1]
        def test_tidy(): spawn(wait, 0)
        """
    result = suite(source, *on)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*LeakedTaskWarning: test_leaks has left tasks behind*: forever*"])
    result = suite(source, *on, "-W", "default")
    result.assert_outcomes(passed=3, warnings=1)


def test_a_task_that_cancels_itself_spoils_nothing(suite: Suite) -> None:
    result = suite(
        """
        import asyncio

        def test_waits_then():
            task().cancel()
            wait()

        def test_ends_then(): task().cancel()
        def test_next(): wait(); assert not task().cancelling()
        """,
        "--green",
    )
    result.assert_outcomes(passed=2, failed=1)


def test_a_loop_that_has_crashed_is_replaced(suite: Suite) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    result = suite(
        """
        import trio

        async def crash(): raise ValueError("crash")
        def test_crash():
            trio.lowlevel.spawn_system_task(crash)
            wait(1000)
        def test_next(): wait()
        """,
        *("--green", "--green-loop", "trio"),
    )
    # The test is cancelled as the run ends. What has ended it is said in the teardown.
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: crash"])


def test_tests_may_run_loops_of_their_own(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import asyncio
        import pytest

        def test_asyncio():
            wait()
            assert asyncio.run(asyncio.sleep(0.001, "done")) == "done"
            wait()

        def test_trio():
            trio = pytest.importorskip("trio")
            trio.run(trio.sleep, 0.001)
            wait()
        """,
        *on,
    )
    result.assert_outcomes(passed=2)


# --- several loops -----------------------------------------------------------

all_loops = pytest.mark.skipif(len(CHOSEN) < len(LOOPS), reason="of all loops")


@all_loops
def test_each_loop_has_its_own_wide_fixtures(suite: Suite) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    pytest.importorskip("trio", reason="trio is not installed")
    result = suite(
        """
        import pytest

        @pytest.fixture(scope="session")
        def wide(green_loop):
            wait()
            yield task()
            assert task() is wide_task
            wait()
            print("end of", green_loop)

        def test_one(wide):
            global wide_task
            wait()
            wide_task = wide
            assert task() is wide

        def test_two(wide):
            wait()
            assert task() is wide

        @pytest.mark.green("trio")
        def test_trio(wide, green_loop):
            assert trio_runs() and task() is wide and green_loop == "trio"

        @pytest.mark.no_green
        def test_other(): assert not can_await()
        """,
        *("--green", "-v", "-s"),
        *(f"--green-loop={loop}" for loop in ("asyncio", "uvloop", "trio")),
    )
    result.assert_outcomes(passed=8)
    assert [line for line in result.outlines if "end of" in line][-1].endswith("end of trio")
    for loop in LOOPS:
        result.stdout.fnmatch_lines_random([f"*test_one[[]{loop}[]]*", f"*end of {loop}"])
    result.stdout.fnmatch_lines(["*::test_trio PASSED*"])


@all_loops
def test_marks_change_the_loop_from_test_to_test(suite: Suite) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    result = suite(
        """
        import pytest, unittest

        @pytest.fixture(scope="module", autouse=True)
        def wide():
            wait()
            kind = trio_runs()
            yield kind
            wait()
            assert trio_runs() == kind

        @pytest.mark.green("trio")
        class One(unittest.TestCase):
            def test_one(self): assert trio_runs()
        class Two(unittest.TestCase):
            def test_two(self): assert not trio_runs()
        @pytest.mark.green(loop="trio")
        class Three(unittest.TestCase):
            def test_three(self): assert trio_runs()
        """,
        "--green",
    )
    result.assert_outcomes(passed=3)


# --- beside other plugins ----------------------------------------------------

NEIGHBOURS = {
    "pytest_asyncio": """
        import asyncio
        import pytest, pytest_asyncio

        @pytest_asyncio.fixture(scope="session", loop_scope="session")
        async def wide():
            await asyncio.sleep(0)
            yield 5
            await asyncio.sleep(0)

        @pytest_asyncio.fixture
        async def near():
            await asyncio.sleep(0)
            return 5

        @pytest_asyncio.fixture
        def plain():
            assert not can_await()
            return 5

        @pytest.mark.asyncio
        async def test_async(near, plain, wide): await asyncio.sleep(0.001)
        """,
    "anyio": """
        import anyio
        import pytest

        @pytest.fixture(scope="module")
        def anyio_backend(): return "trio"

        @pytest.fixture(scope="module")
        async def wide(anyio_backend):
            await anyio.sleep(0)
            yield 5
            await anyio.sleep(0)

        @pytest.fixture
        async def near(anyio_backend):
            await anyio.sleep(0)
            yield 5
            await anyio.sleep(0)

        @pytest.fixture
        def plain(near): return near

        @pytest.mark.anyio
        async def test_async(near, plain, wide): await anyio.sleep(0.001)
        """,
    "pytest_trio": """
        import trio
        import pytest

        @pytest.fixture
        def wide(): return 5
        near = plain = wide

        @pytest.fixture
        async def server(nursery):
            await trio.sleep(0)
            yield 5

        @pytest.mark.trio
        async def test_async(server): await trio.sleep(0.001)
        """,
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_async_tests_of_other_plugins_go_on_as_ever(
    suite: Suite, on: tuple[str, ...], name: str
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    pytest.importorskip("trio", reason="trio is not installed")
    result = suite(
        textwrap.dedent(NEIGHBOURS[name])
        + textwrap.dedent("""
        @pytest.fixture(scope="session")
        def ours():
            wait()
            yield
            wait()

        def test_sync(ours): wait()
        def test_with_their_fixtures(near, plain, wide, ours):
            wait()
            assert (near, plain, wide) == (5, 5, 5)
        def test_again(ours): wait()
        """),
        *on,
        *("-p", {"anyio": "anyio.pytest_plugin"}.get(name, f"{name}.plugin")),
        *(["-o", "asyncio_default_fixture_loop_scope=function"] * (name == "pytest_asyncio")),
    )
    result.assert_outcomes(passed=4)


# --- the patch ---------------------------------------------------------------


def test_the_patch_comes_before_conftest_files_and_tests(suite: Suite, on: tuple[str, ...]) -> None:
    result = suite(
        """
        import threading
        import conftest
        from time import sleep
        from verdigris import is_patched

        def test_threads_are_green():
            order = []
            def work(name, seconds):
                sleep(seconds)
                order.append(name)
            threads = [
                threading.Thread(target=work, args=each) for each in [("slow", 0.1), ("fast", 0)]
            ]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert order == ["fast", "slow"]
            assert threading.current_thread() is threading.main_thread()
            assert sleep is conftest.sleep

        def test_main_thread():
            assert threading.main_thread().ident == threading.get_ident()

        def test_left_thread():
            threading.Thread(target=sleep, args=[1000], daemon=True).start()
        """,
        *(*on, "--green-patch"),
        conftest="from time import sleep",
    )
    result.assert_outcomes(passed=3)


def test_a_patch_that_comes_late_names_what_it_missed(
    suite: Suite, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\ngreen_patch = true\n")
    result = suite(
        "def test(): pass",
        *("-p", "early", "-W", "default"),
        early="from time import sleep\nimport taken\n",
        taken="from time import sleep\n",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*PatchWarning: *taken (sleep)*"])
    result.stdout.no_fnmatch_line("*_pytest*(*")


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "args", "said"),
    [
        ("", ["--green-loop", "curio"], "there is no loop 'curio'. Name one or more of asyncio, *"),
        ("", ["-o", "green_loop="], "green_loop is empty. *"),
        (
            "import pytest\n@pytest.mark.green('curio')\ndef test(): pass",
            [],
            "test_it.py::test: @pytest.mark.green: there is no loop 'curio'. *",
        ),
        (
            "import pytest\n@pytest.mark.green(on='trio')\ndef test(): pass",
            [],
            "*it takes names of loops, and no 'on'.",
        ),
        (
            "import pytest\n@pytest.mark.green\nasync def test(): pass",
            [],
            "test_it.py::test is async, and @pytest.mark.green is for sync tests. Make it *",
        ),
    ],
)
def test_what_cannot_be_done_is_an_error_of_usage(
    suite: Suite, source: str, args: list[str], said: str
) -> None:
    result = suite(source, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{said}"])


def test_a_loop_that_is_not_installed_is_an_error_of_usage(suite: Suite) -> None:
    hides = "import sys\nsys.modules['uvloop'] = None\n"
    result = suite("", "-p", "hides", "--green-loop", "uvloop", hides=hides)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *uvloop is not installed: pip install uvloop"])


def test_verdigris_does_not_need_pytest(python: Callable[..., Any]) -> None:
    python("import sys, verdigris\nassert 'pytest' not in sys.modules")
