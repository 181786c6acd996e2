"""`patch_blocking`: what imports in the block get, what they get later, and what all others get."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

# `time` and `concurrent.futures` stand for all modules: one plain, one in a package.
PRELUDE = """
    import sys, time as real_time, types, warnings
    import concurrent.futures as real_futures
    from verdigris import PatchWarning, patch_blocking, _patched_modules
    import verdigris.green.time as green_time

    futures = types.ModuleType("verdigris.green.concurrent.futures")
    sys.modules["verdigris.green.concurrent.futures"] = futures
    exec('''if True:
        import concurrent.futures as _original
        from verdigris.green import _twin
        def _wait(*args): return "green"
        REPLACED = {"wait": _wait}
        _twin.make(globals(), _original, REPLACED)
    ''', futures.__dict__)
    _patched_modules._found["concurrent.futures"] = _patched_modules._patchable(
        "concurrent.futures", futures
    )
"""

LIBRARY = {
    "lib/__init__.py": "from lib import top",
    "lib/top.py": """
        import time
        from time import sleep
        def lazy():
            import time
            return time
        def lazy_name():
            from time import sleep
            return sleep
        def lazy_module():
            from lib import later
            return later
        def lazy_by_importlib():
            import importlib
            return importlib.import_module("lib.other")
    """,
    "lib/later.py": "import time",
    "lib/other.py": "import time",
    "early.py": """
        import os, time
        from time import sleep
        def pause(): time.sleep(1)
    """,
    "harmless.py": """
        import os, time
        def now(): return time.monotonic(), os.getcwd()
    """,
    "broken.py": "import time\nraise RuntimeError('broken')",
}


@pytest.fixture
def run(python: Run, tmp_path: Path) -> Run:
    """Runs source beside the library, with the names of the prelude. Warnings are errors."""
    for name, source in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def run(source: str) -> CompletedProcess[str]:
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        program += textwrap.dedent(PRELUDE) + textwrap.dedent(source)
        return python(program, options=("-W", "error"))

    return run


def test_imports_in_the_block_are_green_and_none_after_it(run: Run) -> None:
    run(
        """
        with patch_blocking():
            import time
            from time import sleep
            assert time is green_time is sys.modules["time"]
            assert sleep is green_time.sleep
        import time
        assert time is real_time is sys.modules["time"]
        """
    )


def test_modules_loaded_in_the_block_stay_and_their_lazy_imports_are_green(run: Run) -> None:
    run(
        """
        with patch_blocking():
            import lib
        assert sys.modules["lib.top"] is lib.top
        assert lib.top.time is green_time and lib.top.sleep is green_time.sleep
        assert lib.top.lazy() is green_time and lib.top.lazy_name() is green_time.sleep
        # What they load for the first time is green as well.
        assert lib.top.lazy_module().time is green_time
        assert lib.top.lazy_by_importlib().time is green_time
        import time
        assert time is real_time
        """
    )


def test_a_module_loaded_outside_the_block_is_not_green_later(run: Run) -> None:
    run(
        """
        import lib
        with patch_blocking():
            import time
        assert lib.top.lazy() is real_time and lib.top.lazy_module().time is real_time
        """
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import concurrent.futures; found = concurrent.futures",
        "import concurrent.futures as found",
        "from concurrent import futures as found",
        "import concurrent; found = concurrent.futures",
    ],
)
def test_modules_in_packages_are_green_however_they_are_imported(run: Run, statement: str) -> None:
    run(
        f"""
        with patch_blocking():
            {statement}
        assert found is futures and found.wait() == "green"
        {statement}
        assert found is real_futures
        """
    )


def test_submodules_without_a_twin_are_found_in_a_package_with_one(run: Run) -> None:
    run(
        """
        with patch_blocking():
            import concurrent.futures.process
            from concurrent.futures import wait, thread
            assert concurrent.futures.process is sys.modules["concurrent.futures.process"]
            assert thread is sys.modules["concurrent.futures.thread"]
            assert wait() == "green"
            import os.path as path
            import os
        assert path is sys.modules["os.path"] and path is os.path
        """
    )


def test_only_the_modules_that_are_named_are_green(run: Run) -> None:
    run(
        """
        with patch_blocking(["concurrent.futures"]):
            import concurrent.futures, lib
            assert concurrent.futures is futures
        assert lib.top.time is real_time and lib.top.lazy() is real_time
        """
    )


def test_blocks_nest(run: Run) -> None:
    run(
        """
        with patch_blocking(["concurrent.futures"]):
            with patch_blocking(["time"]):
                import time, concurrent.futures
                assert time is green_time and concurrent.futures is futures
            import time
            assert time is real_time is sys.modules["time"]
            with patch_blocking(["time"]), patch_blocking():
                pass
            assert sys.modules["time"] is real_time
        """
    )


def test_an_exception_in_the_block_ends_it(run: Run) -> None:
    run(
        """
        try:
            with patch_blocking():
                import broken
        except RuntimeError as error:
            assert str(error) == "broken"
        import time
        assert time is real_time and "broken" not in sys.modules
        """
    )


def test_it_is_a_decorator_too(run: Run) -> None:
    run(
        """
        @patch_blocking(["time"])
        def load():
            import time
            return time
        assert load() is load() is green_time and sys.modules["time"] is real_time
        """
    )


def test_the_import_system_by_itself_finds_green_modules_in_the_block(run: Run) -> None:
    run(
        """
        import importlib
        with patch_blocking():
            assert importlib.import_module("time") is green_time
        assert importlib.import_module("time") is real_time
        """
    )


def test_other_threads_import_the_stdlib_meanwhile(run: Run) -> None:
    run(
        """
        import threading
        found = []
        def other():
            import time, lib
            found.extend((time, lib.top.time))
        with patch_blocking():
            thread = threading.Thread(target=other)
            thread.start(); thread.join()
            import time
        assert found == [real_time, real_time] and time is green_time
        """
    )


def test_two_threads_are_in_blocks_at_once(run: Run) -> None:
    run(
        """
        import threading
        both, one_left = threading.Barrier(2), threading.Event()
        found = {}
        def first():
            with patch_blocking():
                both.wait(30)
            one_left.set()
        def second():
            with patch_blocking(["time"]):
                both.wait(30)
                assert one_left.wait(30)
                import time
                found["in"] = time, sys.modules["time"]
            import time
            found["after"] = time, sys.modules["time"]
        threads = [threading.Thread(target=f) for f in (first, second)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert found == {"in": (green_time,) * 2, "after": (real_time,) * 2}, found
        """
    )


@pytest.mark.parametrize("name", ["asyncio.some", "trio.some", "anyio", "verdigris.some"])
def test_what_runs_a_loop_gets_the_stdlib_in_the_block_too(run: Run, name: str) -> None:
    run(
        f"""
        package = types.ModuleType({name!r})
        with patch_blocking():
            exec("import time, concurrent.futures; from time import sleep", package.__dict__)
        assert package.time is real_time and package.sleep is real_time.sleep
        assert package.concurrent.futures is real_futures
        """
    )


def test_asyncio_loaded_in_the_block_runs_on_the_stdlib(python: Run) -> None:
    python(
        """
        import sys, time, verdigris
        from verdigris import patch_blocking
        assert "trio" not in sys.modules
        with patch_blocking():
            import trio
        modules = [vars(m) for name, m in sys.modules.items() if name.startswith("trio")]
        assert {id(names["time"]) for names in modules if "time" in names} <= {id(time)}
        trio.run(trio.sleep, 0.01)
        """
    )


def test_a_module_that_was_loaded_before_is_named_once(run: Run) -> None:
    run(
        """
        import early, harmless
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                with patch_blocking():
                    import early, harmless, json, os
        assert [one.category for one in caught] == [PatchWarning]
        text = str(caught[0].message)
        assert ": early (sleep, time.sleep). Import" in text and "harmless" not in text, text
        assert caught[0].filename == "<string>"
        """
    )


def test_modules_of_a_library_that_was_loaded_before_are_named(run: Run) -> None:
    run(
        """
        import lib
        try:
            with patch_blocking():
                from lib.top import lazy
        except PatchWarning as warning:
            assert "lib.top (sleep" in str(warning)
        else:
            raise AssertionError("no warning")
        assert sys.modules["time"] is real_time
        """
    )


def test_warnings_of_imports_name_the_module_that_imports(run: Run) -> None:
    run(
        """
        with patch_blocking():
            pass
        module = types.ModuleType("old")
        import os, tempfile
        path = os.path.join(sys.path[0], "old.py")
        open(path, "w").write("import warnings; warnings.warn('old', UserWarning, 2)")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import old
        assert caught[0].filename == "<string>", caught[0].filename
        """
    )


def test_a_library_that_was_loaded_in_the_block_waits_on_the_loop(run: Run) -> None:
    run(
        """
        import asyncio
        from verdigris import async_def
        with patch_blocking():
            import lib
        async def main():
            order = []
            def work(name, seconds):
                lib.top.sleep(seconds)
                order.append(name)
            await asyncio.gather(async_def(work, "slow", 0.2), async_def(work, "fast", 0))
            return order
        assert asyncio.run(main()) == ["fast", "slow"]
        """
    )


def test_the_originals_can_be_had_in_a_block(python: Run) -> None:
    """A module of ours that is imported in one may need them."""
    done = python(
        """
        import _thread, concurrent.futures
        from verdigris import get_original, patch_blocking

        lock, future = _thread.allocate_lock, concurrent.futures.Future
        with patch_blocking():
            assert get_original("_thread", "allocate_lock") is lock
            assert get_original("_thread").allocate_lock is lock
            assert get_original("concurrent.futures", "Future") is future
        print("done")
        """
    )
    assert done.stdout == "done\n"
