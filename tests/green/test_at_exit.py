"""Green objects in finalizers that run when the interpreter ends.

Until then the interpreter has cleared the globals of the modules. The functions that ours stand for
are written in C for the most part, and have none.
"""

from __future__ import annotations

from typing import Any

import pytest

LATE = """
import os, posix, sys
if sys.argv[1] == "patched":
    import verdigris
    verdigris.patch_all()
elif sys.argv[1] == "green":
    from verdigris.green import os, queue, select, selectors, socket, subprocess, threading, time

if sys.argv[1] != "green":
    import queue, select, selectors, socket, subprocess, threading, time

class Late:
    def __init__(self):
        self.lock, self.rlock = threading.Lock(), threading.RLock()
        self.event, self.local = threading.Event(), threading.local()
        self.queue, self.simple = queue.Queue(), queue.SimpleQueue()
        self.reads, self.writes = os.pipe()
        self.other = os.dup(self.writes)
        self.file = os.fdopen(os.dup(self.writes), "w")
        self.file.write("of the file")
        self.one, self.two = socket.socketpair()
        self.child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.epoll, self.poll = select.epoll(), select.poll()
        self.selector = selectors.DefaultSelector()

    def __del__(
        self,
        tell=posix.write,
        close=os.close,
        read=os.read,
        write=os.write,
        dup2=os.dup2,
        select=select.select,
        sleep=time.sleep,
        ident=threading.get_ident,
    ):
        def attempt(name, function):
            try:
                function()
            except BaseException as error:
                tell(1, f"{name}: {error!r}\\n".encode())

        attempt("write", lambda: write(self.writes, b"x"))
        attempt("read", lambda: read(self.reads, 1))
        attempt("close of a file", lambda: self.file.close())
        attempt("what is in the file", lambda: tell(1, read(self.reads, 100) + b"\\n"))
        attempt("dup2", lambda: dup2(self.writes, self.other))
        attempt("close", lambda: close(self.writes))
        attempt("sleep", lambda: sleep(0.001))
        attempt("ident", lambda: ident())
        attempt("lock", lambda: (self.lock.acquire(), self.lock.release()))
        attempt("rlock", lambda: (self.rlock.acquire(), self.rlock.release()))
        attempt("event", lambda: self.event.set())
        attempt("local", lambda: setattr(self.local, "key", 1))
        attempt("queue", lambda: (self.queue.put_nowait(1), self.queue.get_nowait()))
        attempt("simple queue", lambda: (self.simple.put(1), self.simple.get()))
        attempt("socket", lambda: (self.one.sendall(b"x"), self.two.recv(1)))
        attempt("close of a socket", lambda: (self.one.close(), self.two.close()))
        attempt("select", lambda: select([], [], [], 0))
        attempt("poll", lambda: self.poll.poll(0))
        attempt("epoll", lambda: (self.epoll.poll(0), self.epoll.close()))
        attempt("selector", lambda: (self.selector.select(0), self.selector.close()))
        attempt("poll of a child", lambda: self.child.poll())
        attempt("close of a child's input", lambda: self.child.stdin.close())
        tell(1, b"end\\n")

# The last module whose contents go.
sys.late = Late()
"""


@pytest.mark.parametrize("way", ["plain", "patched", "green"])
def test_finalizers_at_the_end_of_the_interpreter(python: Any, way: str) -> None:
    done = python(LATE, way)
    assert done.stdout == "of the file\nend\n"
    assert done.stderr == ""


def test_finalizers_at_the_end_of_a_program(python: Any, loop: Any, tmp_path: Any) -> None:
    program = tmp_path / "late.py"
    program.write_text(LATE)
    done = python(
        f"""
        import runpy, sys
        sys.argv[:] = ["verdigris", "--loop", {loop.name!r}, {str(program)!r}, "command"]
        runpy.run_module("verdigris", run_name="__main__")
        """
    )
    assert done.stdout == "of the file\nend\n"
    assert done.stderr == ""


def test_the_end_after_an_error_in_a_thread(python: Any, loop: Any) -> None:
    """Debug builds check at the end that nobody has the type of what the hook was given."""
    done = python(
        """
        from verdigris import _engine, async_def, patch_all
        patch_all()
        import _thread, sys, time
        from conftest import LOOPS

        def fails():
            raise LookupError("reported")

        def work():
            _thread.start_new_thread(fails, ())
            time.sleep(0.01)

        LOOPS[sys.argv[1]]().run(async_def, work)
        _engine.leave_behind(_thread.start_new_thread)  # with the globals of its module
        """,
        loop.name,
    )
    assert "Exception ignored in thread started by" in done.stderr
    assert "LookupError: reported" in done.stderr
