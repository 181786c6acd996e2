"""Every kind of executor, by name, and how each is made."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

PROCESSES = ["spawn", "fork", "forkserver"]
STDLIB = ["threads", *PROCESSES, "interpreters"]
ALL = [*STDLIB, "loky", "dask"]
# Those whose calls are pickled.
APART = [kind for kind in ALL if kind != "threads"]

TESTS = str(Path(__file__).resolve().parent.parent)

# The tests have threads, and from 3.12 on the interpreter says what a fork may do then.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def of_threads(workers: int = 2) -> Executor:
    return concurrent.futures.ThreadPoolExecutor(workers)


def of_processes(context: str, workers: int = 2) -> Executor:
    return concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context(context)
    )


def of_interpreters(workers: int = 2) -> Executor:
    if sys.version_info < (3, 14):
        pytest.skip("executors of interpreters came with Python 3.14")
    from concurrent.futures.interpreter import InterpreterPoolExecutor

    # A new interpreter does not have what pytest adds to the path.
    return InterpreterPoolExecutor(
        workers, initializer=exec, initargs=(f"import sys; sys.path.append({TESTS!r})",)
    )


def of_loky(workers: int = 2) -> Executor:
    loky = pytest.importorskip("loky", reason="loky is not installed")
    return loky.get_reusable_executor(workers, timeout=60, kill_workers=False)


def make(kind: str, cluster: Callable[[], Any]) -> Executor:
    """Makes an executor of two workers. `cluster` gives a Dask client."""
    if kind == "threads":
        return of_threads()
    if kind == "interpreters":
        return of_interpreters()
    if kind == "loky":
        return of_loky()
    if kind == "dask":
        return cluster().get_executor()
    return of_processes(kind)
