"""What the checks have to see: every probe here is wrong."""

import contextlib
import os
import socket
import threading
import time

from libraries.probe import probe

turn = threading.Lock()


@probe
def wrong_value() -> None:
    assert 1 + 1 == 3


@probe(raises=ZeroDivisionError)
def does_not_raise() -> None:
    pass


@probe
def blocks() -> None:
    # The thread's own time: what it waits for a busy processor does not count as blocked.
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        pass


@probe
def leaves_a_socket_open() -> None:
    socket.socket()


@probe
def leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(20,), daemon=True).start()


@probe(slow=True)
def one_after_another() -> None:
    with turn:
        time.sleep(0.3)


@probe(slow=True)
def goes_on() -> None:
    with contextlib.suppress(BaseException):
        time.sleep(0.3)


@probe
def ends_the_process() -> None:
    os._exit(3)
