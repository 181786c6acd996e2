"""`xmlrpc`: server and client in one program."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.client import Fault, MultiCall, ServerProxy
from xmlrpc.server import SimpleXMLRPCServer

from libraries.probe import probe


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    pass


def divide(one: Any, other: Any) -> Any:
    return one / other


def slowly() -> str:
    time.sleep(0.3)
    return "slow"


@contextmanager
def serving() -> Iterator[ServerProxy]:
    with Server(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
        server.register_function(divide)
        server.register_function(slowly)
        server.register_multicall_functions()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with ServerProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


@probe
def called() -> None:
    with serving() as proxy:
        assert proxy.divide(10, 4) == 2.5


@probe
def several_calls_in_one() -> None:
    with serving() as proxy:
        calls: Any = MultiCall(proxy)
        calls.divide(10, 4)
        calls.divide(3, 2)
        assert [*calls()] == [2.5, 1.5]


@probe(raises=Fault)
def error_of_the_server() -> None:
    with serving() as proxy:
        proxy.divide(1, 0)


@probe(slow=True)
def slow() -> None:
    with serving() as proxy:
        assert proxy.slowly() == "slow"
