"""Forks in green functions: the child is a process of its own in which nothing is green.

Each test runs in a process with the whole stdlib green in place.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

# Forks beside 50 functions and 10 threads that wait, and a lock that another function holds.
FORKS = """
import sys, warnings
from verdigris import async_def, patch_all
patch_all()
import asyncio, faulthandler, logging, os, queue, select, socket, subprocess, threading, time
import traceback
from concurrent.futures import ThreadPoolExecutor
from conftest import LOOPS

warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
faulthandler.dump_traceback_later(60, exit=True)
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(threadName)s: %(message)s")
loop = LOOPS[sys.argv[1]]()
lock = threading.Lock()

def held():
    with lock:
        time.sleep(0.3)

of_parent = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(10)]

def threads():
    for thread in of_parent:
        thread.start()

def fork():
    threading.current_thread()  # a dummy thread, as logging makes one
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            in_child()
            code = 7
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def main():
    async with loop.tasks() as start:
        others = [start(async_def, time.sleep, 0.3) for _ in range(50)]
        others += [start(async_def, held), start(async_def, threads)]
        await loop.sleep(0.05)
        forking = start(async_def, fork)
    for one in [forking, *others]:
        assert one.outcome.error is None, one.outcome.error
    print("exit code", forking.outcome.value)
"""

CHILDREN = {
    "threads": """
        assert threading.current_thread() is threading.main_thread()
        assert threading.enumerate() == [threading.current_thread()]
        assert not any(thread.is_alive() for thread in of_parent)
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start()
        thread.join()
        assert not thread.is_alive()
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(abs, [1, -2])) == [1, 2]
    """,
    "the end of threading": """
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start()
        threading._shutdown()  # as the children of multiprocessing do
        assert not thread.is_alive()
    """,
    "locks and queues": """
        assert not lock.acquire(timeout=0.01)  # whose holder is not here
        with threading.RLock(), threading.Condition(), threading.Semaphore():
            pass
        assert not threading.Event().wait(0.01)
        for kind in queue.Queue, queue.SimpleQueue:
            numbers = kind()
            threading.Timer(0.01, numbers.put, (1,)).start()
            assert numbers.get(timeout=30) == 1
    """,
    "sockets": """
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as client:
                peer, _ = server.accept()
                with peer:
                    threading.Timer(0.01, peer.sendall, (b"x",)).start()
                    assert client.recv(1) == b"x"
                    assert select.select([client], [], [], 0.01) == ([], [], [])
        assert socket.getaddrinfo("localhost", 1)
    """,
    "logging": """
        logging.getLogger("child").info("hello")
    """,
    "processes and pipes": """
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True)
        assert done.stdout == b"1\\n"
        reading, writing = os.pipe()
        threading.Timer(0.01, os.write, (writing, b"x")).start()
        assert os.read(reading, 1) == b"x"
    """,
    "loops of its own": """
        async def green():
            await async_def(time.sleep, 0.01)
            return await asyncio.to_thread(abs, -1)
        assert asyncio.run(green()) == 1
        if sys.argv[1] == "trio":
            import trio
            trio.run(async_def, time.sleep, 0.01)
    """,
    "a child of its own": """
        pid = os.fork()
        if not pid:
            time.sleep(0.01)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    """,
}  # fmt: skip


@pytest.mark.one_loop_in_a_cell
@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_a_child_is_as_with_the_plain_stdlib(loop: Any, python: Any, child: str) -> None:
    body = f"{FORKS}\ndef in_child():{child}\nloop.run(main)\n"
    done = python(body, loop.name)
    logged = "MainThread: hello\n" if "logging.getLogger" in child else ""
    assert done.stdout == f"{logged}exit code 7\n"
    assert done.stderr == ""


PROCESSES = """
import sys
from verdigris import async_def, patch_all
patch_all()
import faulthandler, multiprocessing, queue, threading, time, warnings
from conftest import LOOPS

warnings.simplefilter("ignore", DeprecationWarning)

def work(connection):
    numbers = queue.Queue()
    threading.Thread(target=numbers.put, args=(1,)).start()
    connection.send(numbers.get(timeout=30))
    sys.exit(3)

def parent():
    context = multiprocessing.get_context(sys.argv[2])
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    process.start()
    assert ours.recv() == 1
    process.join()
    assert process.exitcode == 3, process.exitcode
    process = context.Process(target=time.sleep, args=(60,))
    process.start()
    process.join(0.05)
    assert process.is_alive()
    process.terminate()
    process.join()
    assert process.exitcode == -15, process.exitcode
    return beats

beats = 0

async def main():
    global beats
    async with loop.tasks() as start:
        started = start(async_def, parent)
        while not started.ended.is_set():
            await loop.sleep(0.002)
            beats += 1
    assert started.outcome.error is None, started.outcome.error
    # One join alone is waited for 50 ms.
    assert started.outcome.value > 5, beats

if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)
    loop = LOOPS[sys.argv[1]]()
    loop.run(main)
    print("ended")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(loop: Any, python: Any, tmp_path: Any, method: str) -> None:
    """A file, which the children of `spawn` import."""
    (tmp_path / "processes.py").write_text(PROCESSES)
    run = f"import runpy; runpy.run_path({str(tmp_path / 'processes.py')!r}, run_name='__main__')"
    done = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{run}", loop.name, method
    )  # fmt: skip
    assert done.stdout == "ended\n"
    assert done.stderr == ""


LOCK_WITH_WAITERS = """
import os, sys, threading, time, warnings
from verdigris.green import _wait

warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
lock = _wait.Lock()
lock.acquire()
for _ in range(5):
    threading.Thread(target=lock.acquire, daemon=True).start()
time.sleep(0.1)
child = os.fork()
if not child:
    waits = threading.Thread(target=lock.acquire, daemon=True)
    waits.start()
    time.sleep(0.1)
    lock.release()  # for this thread, and not for one that is not here
    waits.join(10)
    os._exit(waits.is_alive())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


def test_a_lock_that_threads_of_the_parent_wait_for(python: Any) -> None:
    """`SimpleQueue`, and so the executor's queue of work, stands on such locks."""
    assert python(LOCK_WITH_WAITERS).stdout == "0\n"


def test_a_function_that_is_driven_by_hand_goes_on_in_the_child(python: Any) -> None:
    """No loop is lost to it, and none has to be hidden."""
    done = python(
        """
        import os
        import verdigris.green.threading
        from hand_driver import finish, suspend
        from verdigris import async_def, await_

        def green():
            child = os.fork()
            await_(suspend())
            if child == 0:
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        print(finish(async_def(green)))
        """
    )
    assert done.stdout == "7\n"
