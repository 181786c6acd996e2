"""`patch_all`: the stdlib green in place, and who is told that it came too late.

A patch stays, so each test runs in a process of its own. `fakeio` stands for a module of the
stdlib, and `verdigris.green.fakeio` is its green twin.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Python = Callable[..., "CompletedProcess[str]"]

FAKE = textwrap.dedent(
    """
    import sys, textwrap, types, warnings
    from verdigris import PatchWarning, get_original, is_patched, patch_all, patch_blocking
    from verdigris import _patched_modules

    def module(name, source):
        made = types.ModuleType(name)
        sys.modules[name] = made
        exec(textwrap.dedent(source), made.__dict__)
        return made

    fakeio = module("fakeio", '''
    def read(): return "blocking"
    def twice(): return [read(), read()]
    class Stream:
        def get(self): return "blocking"
    ''')
    green = module("verdigris.green.fakeio", '''
    import fakeio as _original
    from verdigris.green import _twin
    def _read(): return "green"
    def _get(self): return "green"
    REPLACED = {"read": _read}
    METHODS = {"Stream": {"get": _get}}
    _twin.make(globals(), _original, REPLACED, METHODS)
    ''')
    _patched_modules.ORDER += ("fakeio",)
    """
)


@pytest.fixture
def fake(python: Python) -> Callable[[str], CompletedProcess[str]]:
    """Runs source after the fake module was made. Warnings are errors."""

    def run(source: str) -> CompletedProcess[str]:
        return python(FAKE + textwrap.dedent(source), options=("-W", "error"))

    return run


def test_names_and_methods_are_green_in_place(fake: Python) -> None:
    fake(
        """
        class Before(fakeio.Stream): pass
        stream = Before()
        patch_all(["fakeio"])
        assert fakeio.twice() == ["green", "green"]
        assert stream.get() == "green" == fakeio.Stream().get()
        assert sys.modules["fakeio"] is fakeio
        """
    )


def test_patching_twice_is_as_good_as_once(fake: Python) -> None:
    fake(
        """
        patch_all(["fakeio"]); first = fakeio.read
        patch_all(["fakeio"]); patch_all(["time", "fakeio"])
        assert fakeio.read is first and get_original("fakeio", "read")() == "blocking"
        """
    )


def test_only_the_modules_that_are_named_are_patched(fake: Python) -> None:
    fake(
        """
        import time
        patch_all(["fakeio"])
        assert is_patched("fakeio") and not is_patched("time")
        assert time.sleep.__module__ == "time"
        patch_all(["time"])
        assert is_patched("time") and time.sleep.__module__ != "time"
        """
    )


@pytest.mark.parametrize("name", ["nonsense", "email", "fakei", ""])
def test_what_cant_be_patched_is_refused_with_a_list_of_what_can(fake: Python, name: str) -> None:
    fake(
        f"""
        for function in (patch_all, lambda names: patch_blocking(names).__enter__()):
            try:
                function(["fakeio", {name!r}])
            except ValueError as error:
                assert "can't patch {name!r}" in str(error).replace('"', "'"), error
                assert "time" in str(error) and "fakeio" in str(error)
            else:
                raise AssertionError("not refused")
        assert not is_patched("fakeio")
        """
    )


def test_one_string_is_no_list_of_names(fake: Python) -> None:
    fake(
        """
        try:
            patch_all("time")
        except TypeError as error:
            assert str(error) == "patch_all() takes a list of names: patch_all(['time'])"
        else:
            raise AssertionError("not refused")
        """
    )


def test_originals_can_be_had_before_and_after(fake: Python) -> None:
    fake(
        """
        for _ in range(2):
            assert get_original("fakeio", "read")() == "blocking"
            assert get_original("fakeio", "Stream.get")(None) == "blocking"
            assert [f() for f in get_original("fakeio", ["read"])] == ["blocking"]
            whole = get_original("fakeio")
            assert whole.read() == "blocking" and whole.Stream is fakeio.Stream
            patch_all(["fakeio"])
        assert fakeio.read() == "green"
        for bad, kind in ((("fakeio", "no"), AttributeError), (("no_module",), ImportError)):
            try:
                get_original(*bad)
            except kind:
                continue
            raise AssertionError(bad)
        """
    )


def test_is_patched_tells_of_names_and_methods(fake: Python) -> None:
    fake(
        """
        assert not is_patched("fakeio") and not is_patched("fakeio", "read")
        patch_all(["fakeio"])
        assert is_patched("fakeio", "read") and is_patched("fakeio", "Stream.get")
        assert not is_patched("fakeio", "twice") and not is_patched("no_module")
        """
    )


def test_a_module_that_took_a_name_before_is_warned_of_once(fake: Python) -> None:
    fake(
        """
        app = module("app.work", '''if True:
            from fakeio import read, twice
            class Client:
                source = read
                def ask(self, reader=read): return reader()
            def ask(*, reader=read): return reader()
            unrelated = 1
        ''')
        other = module("app.other", "import fakeio")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch_all(["fakeio"])
            patch_all(["time"])
        assert [one.category for one in caught] == [PatchWarning]
        text = str(caught[0].message)
        assert "app.work (Client.ask(), Client.source, ask(), read)" in text, text
        assert "app.other" not in text and "before they are imported" in text
        assert caught[0].filename == "<string>"
        assert app.read() == "blocking"
        """
    )


def test_a_class_derived_from_one_that_is_replaced_is_named(fake: Python) -> None:
    fake(
        """
        green.REPLACED["Stream"] = type("Stream", (), {})
        green.METHODS.clear()
        module("app", "import fakeio\\nclass Mine(fakeio.Stream): pass")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch_all(["fakeio"])
        assert "app (Mine(Stream))" in str(caught[0].message)
        """
    )


def test_modules_of_the_stdlib_that_took_a_name_are_served_silently(python: Python) -> None:
    done = python(
        """
        import sched, time
        assert time.sleep in sched.scheduler.__init__.__defaults__
        from verdigris import patch_all
        patch_all(["time"])
        assert time.sleep in sched.scheduler.__init__.__defaults__
        assert time.sleep.__module__ != "time"
        print("silent")
        """,
        options=("-W", "error"),
    )
    assert (done.stdout, done.stderr) == ("silent\n", "")


def test_a_function_in_c_that_a_class_holds_does_not_become_a_method(fake: Python) -> None:
    fake(
        """
        import zipfile
        fakeio.read = len
        green.REPLACED["read"] = lambda *args: ("green", args)
        zipfile.Holder = type("Holder", (), {"__module__": "zipfile", "size": len})
        patch_all(["fakeio"])
        assert zipfile.Holder().size("abc") == ("green", ("abc",))
        """
    )


@pytest.mark.parametrize("name", ["asyncio.some", "trio", "verdigris.some", "uvloop.loop"])
def test_what_runs_a_loop_is_left_alone(fake: Python, name: str) -> None:
    fake(
        f"""
        holder = module({name!r}, "from fakeio import read")
        patch_all(["fakeio"])
        assert holder.read() == "blocking"
        """
    )


def test_loops_that_are_imported_after_the_patch_have_the_stdlibs_own(python: Python) -> None:
    python(
        """
        import sys, threading
        from verdigris import get_original, patch_all
        assert "trio" not in sys.modules
        patch_all()
        import trio, asyncio, sniffio
        from trio._core import _entry_queue, _run
        assert type(_run.GLOBAL_RUN_CONTEXT).__bases__ == (get_original("threading", "local"),)
        assert isinstance(_entry_queue.EntryQueue().lock, type(get_original("_thread", "RLock")()))
        trio.run(trio.sleep, 0.01)
        asyncio.run(asyncio.sleep(0.01))
        """
    )


def test_loops_that_were_imported_before_go_on_with_the_stdlibs_own(python: Python) -> None:
    python(
        """
        import asyncio, trio, warnings
        from verdigris import PatchWarning, get_original, patch_all
        warnings.simplefilter("ignore", PatchWarning)
        patch_all()
        from trio._core import _entry_queue
        assert isinstance(_entry_queue.EntryQueue().lock, type(get_original("_thread", "RLock")()))
        trio.run(trio.sleep, 0.01)
        trio.run(trio.to_thread.run_sync, int)
        asyncio.run(asyncio.to_thread(int))
        """
    )


def test_asyncio_in_debug_mode_knows_its_thread_in_functions(python: Python) -> None:
    """It asks for the thread at each call, and a function has an identity of its own."""
    python(
        """
        import asyncio, threading, verdigris
        verdigris.patch_all()
        done = []

        def work():
            assert threading.get_ident() != verdigris.get_original("threading", "get_ident")()
            asyncio.get_running_loop().call_soon(done.append, "called")
            thread = threading.Thread(target=done.append, args=("thread",))
            thread.start()
            thread.join()
            verdigris.await_(asyncio.create_task(asyncio.sleep(0)))

        asyncio.run(verdigris.async_def(work), debug=True)
        assert sorted(done) == ["called", "thread"], done
        """
    )


def test_locks_of_the_stdlib_that_nobody_holds_are_replaced(python: Python) -> None:
    python(
        """
        import _thread, asyncio.events, concurrent.futures.thread, logging, tempfile, threading
        from verdigris import _module_locks
        from verdigris.green import _wait

        handler, held = logging.StreamHandler(), logging.StreamHandler()
        kept = held.lock, threading._active_limbo_lock, asyncio.events._lock
        held.acquire()
        _module_locks.replace()

        assert type(concurrent.futures.thread._global_shutdown_lock) is _wait.Lock
        assert type(tempfile._once_lock) is _wait.Lock
        assert type(logging._lock) is type(handler.lock) is _wait.RLock
        # Held, or none of our business.
        assert kept == (held.lock, threading._active_limbo_lock, asyncio.events._lock)
        held.release()
        logging.getLogger("x").warning("still works")
        """
    )


def test_a_lock_that_was_replaced_is_free_in_a_child(python: Python) -> None:
    python(
        """
        import os, tempfile, warnings
        from verdigris import _module_locks
        _module_locks.replace()
        tempfile._once_lock.acquire()
        child = os.fork()
        if not child:
            os._exit(0 if tempfile._once_lock.acquire(False) else 1)
        assert os.waitpid(child, 0)[1] == 0
        """
    )


@pytest.mark.parametrize("name", ["asyncio", "uvloop", "trio"])
def test_patching_late_serves_the_loop_that_runs(python: Python, name: str) -> None:
    python(
        """
        import sys, time
        from conftest import LOOPS
        from verdigris import async_def, patch_all
        loop = LOOPS[sys.argv[1]]()
        order = []

        def work(name, seconds):
            time.sleep(seconds)
            order.append(name)

        async def main():
            patch_all(["time"])
            async with loop.tasks() as start:
                start(lambda: async_def(work, "slow", 0.2))
                start(lambda: async_def(work, "fast", 0))

        loop.run(main)
        assert order == ["fast", "slow"], order
        """,
        name,
    )


def test_every_module_that_is_replaced_does_what_it_did_without_a_loop(python: Python) -> None:
    python(
        """
        import os, queue, select, selectors, socket, subprocess, sys, threading, time
        from concurrent.futures import ThreadPoolExecutor
        from verdigris import patch_all
        patch_all()
        time.sleep(0)
        a, b = socket.socketpair()
        with a, b, selectors.DefaultSelector() as selector:
            a.sendall(b"x")
            selector.register(b, selectors.EVENT_READ)
            assert selector.select(5) and select.select([b], [], [], 5)[0] == [b]
            assert b.recv(1) == b"x"
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda n: n + 1, range(3))) == [1, 2, 3]
        numbers = queue.Queue()
        thread = threading.Thread(target=numbers.put, args=(threading.main_thread().ident,))
        thread.start(); thread.join()
        assert numbers.get(timeout=5) == threading.get_ident()
        assert threading.current_thread() is threading.main_thread()
        assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout
        """
    )
