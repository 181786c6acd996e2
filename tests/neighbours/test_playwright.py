"""Playwright through its driver: requests to a server of this test, and no browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import needs_native_stacks

pytest.importorskip("playwright", reason="playwright is not installed")

import greenlet
from playwright.async_api import async_playwright
from playwright.sync_api import Error, sync_playwright

from verdigris import (
    async_context,
    async_def,
    await_,
)

from .conftest import Entry


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def waits(steps: int = 3) -> int:
    return sum(await_(asyncio.sleep(0.001, 1)) for _ in range(steps))


def fetch(url: str) -> str:
    with sync_playwright() as playwright:
        requests = playwright.request.new_context()
        text = requests.get(f"{url}/sync").text()
        requests.dispose()
    return text


def test_sync_before_and_after_a_loop(aio: Any, url: str) -> None:
    assert fetch(url) == "/sync"
    assert aio.run(async_def, waits) == 3
    assert fetch(url) == "/sync"


def test_sync_in_threads_while_functions_wait(aio: Any, url: str, entry: Entry) -> None:
    def in_function() -> str:
        return await_(asyncio.to_thread(fetch, url))

    async def main() -> Any:
        ended = threading.Event()
        fetched: list[str] = []
        thread = threading.Thread(target=lambda: (fetched.append(fetch(url)), ended.set()))
        thread.start()
        results = await asyncio.gather(
            asyncio.to_thread(fetch, url), entry(in_function), *(entry(waits) for _ in range(20))
        )
        while not ended.is_set():
            assert await entry(waits) == 3
        thread.join()
        return results, fetched

    assert aio.run(main) == (["/sync", "/sync"] + [3] * 20, ["/sync"])


def test_sync_in_a_task_is_refused_by_playwright(aio: Any, url: str, entry: Entry) -> None:
    def function() -> int:
        with pytest.raises(Error, match="Playwright Sync API inside the asyncio loop"):
            fetch(url)
        return waits()

    async def main() -> Any:
        return await asyncio.gather(*(entry(function) for _ in range(2)))

    assert aio.run(main) == [3, 3]
    assert fetch(url) == "/sync"


def test_sync_in_a_function_without_a_loop(url: str) -> None:
    function = async_def(fetch, url)
    with pytest.raises(StopIteration) as end:
        function.send(None)
    assert end.value.value == "/sync"


@needs_native_stacks
def test_a_playwright_of_another_stack_is_refused(url: str) -> None:
    results: list[Any] = []

    def refused(requests: Any) -> None:
        with pytest.raises(greenlet.error, match="different thread") as caught:
            requests.get(url)
        results.append("native stack" in caught.value.__notes__[0])

    with sync_playwright() as playwright:
        requests = playwright.request.new_context()
        with pytest.raises(StopIteration):
            async_def(refused, requests).send(None)
        # Not in a loop there: on 3.14 asyncio then waits for Playwright's task, without us too.
        thread = threading.Thread(target=refused, args=[requests])
        thread.start()
        thread.join()
        assert results == [True, True]
        assert requests.get(f"{url}/again").text() == "/again"
        requests.dispose()


def test_a_loop_inside_the_block_of_playwright(aio: Any, url: str) -> None:
    async def main() -> int:
        return await async_def(waits)

    results: list[int] = []
    with sync_playwright() as playwright:
        coroutine = main()
        with pytest.raises(RuntimeError, match="running event loop"):
            asyncio.run(coroutine)
        coroutine.close()
        thread = threading.Thread(target=lambda: results.append(aio.run(main)))
        thread.start()
        thread.join()
        requests = playwright.request.new_context()
        assert requests.get(f"{url}/still").text() == "/still"
        requests.dispose()
    assert results == [3]


def test_async_in_plain_functions(aio: Any, url: str, entry: Entry) -> None:
    def function() -> str:
        with async_context(async_playwright()) as playwright:
            requests = await_(playwright.request.new_context())
            text = await_(await_(requests.get(f"{url}/async")).text())
            await_(requests.dispose())
        return text

    async def main() -> Any:
        return await asyncio.gather(*(entry(function) for _ in range(3)), entry(waits))

    assert aio.run(main) == ["/async"] * 3 + [3]
