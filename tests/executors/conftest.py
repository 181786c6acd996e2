"""One executor of each kind for the whole session, new ones for tests that break them, and an end.

No test here takes a minute: what hangs is interrupted, by a signal.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import pytest

from executors import dask_cluster, kinds

SECONDS = 60


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """Raises in whatever the main thread waits for, when the time is over."""

    def over(*_: object) -> None:
        raise AssertionError(f"the test took longer than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def connected(workers: int) -> Iterator[Any]:
    """A cluster with so many workers, and a client of it."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with dask_cluster.cluster(workers) as address:
        client = distributed.Client(address, set_as_default=False, timeout=20)
        try:
            client.wait_for_workers(workers, timeout=30)
            yield client
        finally:
            client.close(timeout=5)


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Any]:
    """A client of a cluster of two workers, which no test may break."""
    with connected(2) as client:
        yield client


@pytest.fixture
def new_dask_client() -> Iterator[Any]:
    """A client of a cluster of three workers, of the test's own."""
    with connected(3) as client:
        yield client


@pytest.fixture(scope="session")
def kept(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Executor]]:
    """Gives the session's executor of a kind."""
    made: dict[str, Executor] = {}

    def give(kind: str) -> Executor:
        # loky gives the same again, if that is well.
        if kind not in made or kind == "loky" or getattr(made[kind], "_broken", False):
            made[kind] = kinds.make(kind, lambda: request.getfixturevalue("dask_client"))
        return made[kind]

    yield give
    made.pop("dask", None)  # its client was closed before
    for executor in made.values():
        executor.shutdown()


@pytest.fixture(params=kinds.ALL)
def executor(request: pytest.FixtureRequest, kept: Callable[[str], Executor]) -> Executor:
    """One of each kind. The session's: it is not to be broken."""
    return kept(request.param)


@pytest.fixture(params=kinds.APART)
def apart(request: pytest.FixtureRequest, kept: Callable[[str], Executor]) -> Executor:
    """One of each kind that pickles its calls. The session's."""
    return kept(request.param)


@pytest.fixture
def new(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Executor]]:
    """Makes executors that a test may break."""
    made: list[Executor] = []

    def give(kind: str) -> Executor:
        made.append(kinds.make(kind, lambda: request.getfixturevalue("new_dask_client")))
        return made[-1]

    yield give
    for executor in made:
        executor.shutdown(wait=True)
