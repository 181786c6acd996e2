"""A sync HTTP client in an asyncio program: `urllib.request`, which knows of no loop.

`patch_all()` comes first. Then the client's sockets wait on the event loop wherever a function runs
green, and the loop counts on meanwhile. The server's threads are green threads of the same loop.
"""

from __future__ import annotations

from verdigris import async_def, patch_all

patch_all()  # before the imports that it is about

import asyncio  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: E402
from threading import Thread  # noqa: E402
from urllib.request import urlopen  # noqa: E402

PAGES = ("one", "two", "three")


class _Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"page {self.path[1:]}".encode())

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Says nothing."""


@contextmanager
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as served:
        thread = Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            thread.join()


def fetch(address: str) -> str:
    with urlopen(address, timeout=5) as reply:
        text: str = reply.read().decode()
    return text


def fetch_all() -> list[str]:
    fetched: dict[str, str] = {}

    def keep(page: str) -> None:
        fetched[page] = fetch(f"{address}/{page}")

    with server() as address:
        threads = [Thread(target=keep, args=(page,)) for page in PAGES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [fetched[page] for page in PAGES]


async def main() -> None:
    task = asyncio.create_task(async_def(fetch_all))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.005)
        ticks += 1
    print(*await task, sep="\n")
    print("the loop went on meanwhile:", ticks > 5)


if __name__ == "__main__":
    asyncio.run(main())
