"""Which of CPython's test files are run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

#: What the green modules stand for.
GREEN = (
    "test_socket", "test_ssl", "test_threading", "test_thread", "test_threading_local",
    "test_queue", "test_select", "test_poll", "test_epoll", "test_selectors", "test_time",
    "test_timeout", "test_httplib", "test_httpservers", "test_urllib", "test_urllib2",
    "test_urllib2_localnet", "test_urllib_response", "test_ftplib", "test_smtplib",
    "test_imaplib", "test_poplib", "test_socketserver", "test_xmlrpc", "test_subprocess",
    "test_signal", "test_logging", "test_sched", "test_concurrent_futures",
)  # fmt: skip

#: What checks the engine: they run in a green function as they are.
ENGINE = (
    "test_asyncio", "test_context", "test_coroutines", "test_asyncgen", "test_sys_settrace",
    "test_sys_setprofile",
)  # fmt: skip

FILES = (*GREEN, *ENGINE)

#: The part that CI runs.
CI = (
    "test_socket", "test_ssl", "test_threading", "test_thread", "test_threading_local",
    "test_queue", "test_select", "test_poll", "test_epoll", "test_selectors", "test_time",
    "test_httplib", "test_urllib", "test_urllib2", "test_urllib2_localnet", "test_ftplib",
    "test_poplib", "test_socketserver", "test_context", "test_coroutines", "test_asyncgen",
    "test_sys_settrace", "test_sys_setprofile",
)  # fmt: skip

#: Those that take longest are begun first.
_LONG = (
    "test_asyncio.test_events", "test_subprocess", "test_signal", "test_socket", "test_imaplib",
    "test_threading", "test_logging", "test_ssl", "test_selectors", "test_concurrent_futures",
    "test_ftplib", "test_smtplib",
)  # fmt: skip


def modules(names: list[str]) -> list[str]:
    """The test modules of this interpreter that belong to the names; of a package, all of its."""
    found = []
    for name in names:
        spec = importlib.util.find_spec(f"test.{name}")
        if spec is None:
            continue  # this version does not have it
        if spec.submodule_search_locations is None:
            found.append(name)
            continue
        for folder in spec.submodule_search_locations:
            files = sorted(Path(folder).glob("test_*.py"))
            found += [f"{name}.{path.stem}" for path in files]
    rank = {name: position for position, name in enumerate(_LONG)}
    return sorted(found, key=lambda name: rank.get(name, rank.get(name.partition(".")[0], 99)))


def file_of(module: str) -> str:
    """The name of the table's row that a module belongs to."""
    return module.partition(".")[0]
