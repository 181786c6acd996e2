"""Each library on each loop, in a process of its own in which the stdlib is green.

The mode "threads" runs the same programs on OS threads with the stdlib as it is: a program that
fails there is wrong itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certificates import Certificates
from conftest import python_path
from server_processes import free_port
from servers import filled_up

from libraries.table import LIBRARIES, MODES, Library

# A process is started anew after a check that hung or crashed.
CRASHES = 4
SECONDS = 280

# What clients take from the environment: proxies, and authorities other than those of the test.
LEFT_OUT = re.compile(r"(?i).*_proxy|.*_CA_BUNDLE|SSL_CERT_.*|AWS_.*|PG.*")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """The loop, or "threads"."""
    if request.param in ("uvloop", "trio"):
        pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="session")
def full_port() -> Iterator[int]:
    """A port where a connection is neither taken nor refused."""
    with filled_up() as port:
        yield port


@pytest.fixture
def addresses(
    certificates: Certificates, full_port: int, request: pytest.FixtureRequest
) -> Callable[[Library], dict[str, Any]]:
    """What a library's programs know of its servers, which run from here on."""

    def start(library: Library) -> dict[str, Any]:
        return {
            "certificates": {"authority": str(certificates.authority)},
            "refused": free_port(),
            "full": full_port,
            **{name: request.getfixturevalue(name) for name in library.servers},
        }

    return start


def checked(library: Library, mode: str, servers: dict[str, Any]) -> dict[str, str | None]:
    """The checks by name, each with what was wrong, or None."""
    found: dict[str, str | None] = {}
    for _ in range(CRASHES):
        began: str | None = None
        with subprocess.Popen(
            [sys.executable, "-m", "libraries.run", mode, library.program, *found],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **{n: value for n, value in os.environ.items() if not LEFT_OUT.fullmatch(n)},
                "PYTHONPATH": python_path(),
                "VERDIGRIS_SERVERS": json.dumps(servers),
                "VERDIGRIS_PATCHES": " ".join(library.patches),
            },
        ) as process:
            try:
                output, errors = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                output, errors = process.communicate()
        if errors:
            print(errors)
        for line in output.splitlines():
            match json.loads(line):
                case {"began": began}:
                    pass
                case {"ended": name, "wrong": wrong}:
                    found[name], began = wrong, None
                case {"finished": True}:
                    return found
        last = errors.strip().splitlines()[-1:]
        said = f"exit code {process.returncode}: {' '.join(last)}"
        if "Timeout (" in errors:
            said = "hangs, and blocks the loop"
        found[began or "start"] = said
        if began is None:
            break
    return found


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.program.strip("_"))
def test_library(
    library: Library,
    mode: str,
    addresses: Callable[[Library], dict[str, Any]],
    results: dict[str, Any],
) -> None:
    for package in library.packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    found = checked(library, mode, addresses(library))
    results.setdefault(library.name, {})[mode] = found
    wrong = {name: said for name, said in found.items() if said is not None}
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())
    assert found, "nothing was checked"


BROKEN = {
    "wrong_value: right": "AssertionError",
    "does_not_raise: right": "did not raise",
    "blocks: right": "the loop was blocked",
    "leaves_a_socket_open: right": "unclosed <socket",
    "leaves_a_thread: right": "still in use",
    "one_after_another: right": None,
    "one_after_another: at once": "3 at once took 0.9",
    "one_after_another: cancelled": None,
    "goes_on: right": None,
    "goes_on: at once": None,
    "goes_on: cancelled": "went on when it was cancelled",
    "ends_the_process: right": "exit code 3",
}


def test_the_checks_see_what_is_wrong() -> None:
    found = checked(Library("", "broken"), "asyncio", {})
    assert found.keys() == BROKEN.keys()
    for name, said in found.items():
        assert (BROKEN[name] or "None") in str(said), name
