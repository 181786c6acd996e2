"""The whole stdlib green in place, at odd times: in `__del__`, in `atexit`, while others import.

Each test runs in a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import needs_native_stacks

ODD_TIMES = """
import sys
from verdigris import async_def, patch_all
if sys.argv[2] == "green":
    patch_all()
import atexit, faulthandler, gc, logging, queue, socket, sys, threading, time
from conftest import LOOPS

faulthandler.dump_traceback_later(60, exit=True)
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
lock, rlock, condition, event = (
    threading.Lock(), threading.RLock(), threading.Condition(), threading.Event()
)
queues = queue.Queue(), queue.SimpleQueue()

def wait_in_vain(wait):
    # At the interpreter's end, 3.15 refuses to wait for a lock.
    refuses = sys.is_finalizing() and sys.version_info >= (3, 15)
    refusal = "PythonFinalizationError" if refuses else ""
    try:
        assert not wait(0.001)
    except RuntimeError as error:
        assert type(error).__name__ == refusal
    else:
        assert not refusal

def use(where):
    with lock, rlock, condition:
        condition.notify_all()
        wait_in_vain(condition.wait)
    wait_in_vain(event.wait)
    for each in queues:
        each.put(where)
        assert each.get() == where
    a, b = socket.socketpair()
    with a, b:
        a.sendall(b"x")
        assert b.recv(1) == b"x"
        b.settimeout(0.001)
        try:
            b.recv(1)
        except TimeoutError:
            logging.info(where)

class Garbage:
    def __init__(self, where, circle=False):
        self.where, self.me = where, self if circle else None

    def __del__(self):
        use(self.where)

def make(where):
    Garbage(f"__del__ {where}")
    Garbage(f"the collector {where}", circle=True)
    gc.collect()

atexit.register(use, "atexit")
atexit.register(make, "in atexit")
kept = Garbage("__del__ at the end")
at_exit = []
loop = LOOPS[sys.argv[1]]()

async def main():
    make("in the loop")
    async with loop.tasks() as start:
        one = start(async_def, make, "in a function")
    assert one.outcome.error is None, one.outcome.error
    at_exit.append(Garbage("the collector after the loop", circle=True))

loop.run(main)
at_exit.clear()
make("after the loop")
threading.Thread(target=make, args=("in a last thread",)).start()
"""


@needs_native_stacks  # on greenlets nothing waits in a finalizer that the collector calls
def test_locks_queues_sockets_and_logging(loop: Any, python: Any) -> None:
    plain = python(ODD_TIMES, loop.name, "plain")
    done = python(ODD_TIMES, loop.name, "green")
    assert done.stdout == plain.stdout and done.stdout.count("\n") == 13
    assert done.stderr == plain.stderr == ""


def test_asking_who_runs_neither_imports_nor_logs(loop: Any, python: Any) -> None:
    """Locks ask, those of the import system's and of logging's among them."""
    python(
        """
        import sys
        from verdigris import async_def, patch_all
        patch_all()
        import builtins, logging, threading
        from conftest import LOOPS
        from verdigris.green import _wait

        class Handler(logging.Handler):
            def emit(self, record):
                seen.append(record.msg)

        def tell(name, *args, **kwargs):
            seen.append(name)
            return importing(name, *args, **kwargs)

        logging.getLogger().addHandler(Handler())
        logging.getLogger().setLevel(1)
        loop, seen, importing = LOOPS[sys.argv[1]](), [], builtins.__import__

        def ask():
            seen.clear()  # asyncio logs when it begins
            lock = threading.RLock()
            _wait.is_green()  # the first time in a loop, the part for that loop is loaded
            builtins.__import__ = tell
            try:
                for _ in range(2):
                    _wait.get_ident(), _wait.is_green(), _wait.current()
                    _wait.starts_green_threads(), threading.get_ident()
                    with lock, threading.Lock():
                        pass
            finally:
                builtins.__import__ = importing
            assert seen == [], seen

        async def main():
            ask()
            await async_def(ask)

        ask()
        loop.run(main)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        """,
        loop.name,
    )


def test_many_threads_import_and_log(loop: Any, python: Any) -> None:
    done = python(
        """
        import sys
        from verdigris import async_def, patch_all
        patch_all()
        import faulthandler, importlib, logging, threading, time
        from conftest import LOOPS

        faulthandler.dump_traceback_later(60, exit=True)
        logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
        names = ["xmlrpc.client", "xml.dom.minidom", "sqlite3", "imaplib", "wave", "mailbox",
                 "csv", "html.parser", "tarfile", "zoneinfo", "http.cookiejar", "plistlib"]

        def work(number):
            for place in range(len(names)):
                name = names[(number + place) % len(names)]
                importlib.import_module(name)
                logging.info(name)
                time.sleep(0)

        def threads():
            started = [threading.Thread(target=work, args=(n,)) for n in range(12)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()

        loop = LOOPS[sys.argv[1]]()

        async def main():
            async with loop.tasks() as start:
                tasks = [start(async_def, threads), *(start(async_def, work, n) for n in range(6))]
            assert all(task.outcome.error is None for task in tasks)

        others = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for other in others:
            other.start()
        loop.run(main)
        for other in others:
            other.join()
        """,
        loop.name,
    )
    assert done.stdout.count("\n") == 24 * 12


@pytest.mark.parametrize("timeout", [None, 30])
def test_an_os_thread_sends_all(loop: Any, python: Any, timeout: int | None) -> None:
    """While a function reads on the other side, and without a loop."""
    done = python(
        """
        import sys
        from verdigris import async_def, await_, patch_all
        patch_all()
        import asyncio, socket, threading
        from conftest import LOOPS
        from verdigris import loops

        data, loop = bytes(2**22), LOOPS[sys.argv[1]]()

        def read(sock, left=2**22):
            while left:
                left -= len(sock.recv(2**16))
            return "read"

        a, b = socket.socketpair()
        a.settimeout(eval(sys.argv[2]))
        with a, b:
            async def main():
                async with loop.tasks() as start:
                    reading = start(async_def, read, b)
                    await loops.in_thread(lambda: a.sendall(data))
                print(reading.outcome.value)

            loop.run(main)
            sending = threading.Thread(target=a.sendall, args=(data,))
            sending.start()
            print(read(b))
            sending.join()
        """,
        loop.name, timeout,
    )  # fmt: skip
    assert done.stdout == "read\nread\n"
