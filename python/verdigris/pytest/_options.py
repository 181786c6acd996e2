"""The options of the command line, the settings of the same names, the marks, and the patch.

The patch must come before anything that is to be green is imported: before conftest files, and
before other plugins import the program (as pytest-django does). So it is done around the hook that
loads the first conftest files.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Iterable

import pytest

from verdigris import _patch_in_place
from verdigris._patch_in_place import patch_all
from verdigris._psycopg import patch_psycopg
from verdigris._when_imported import when_imported
from verdigris.pytest._running import Running

LOOPS = ("asyncio", "uvloop", "trio")

ALL = pytest.StashKey[bool]()
CHOSEN_LOOPS = pytest.StashKey[tuple[str, ...]]()
_PATCHED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options and the settings."""
    group = parser.getgroup("verdigris", "sync tests in green functions (verdigris)")
    group.addoption(
        "--green",
        action="store_true",
        default=None,
        help="Run all sync tests green. Without it, those that are marked.",
    )
    group.addoption(
        "--green-loop",
        action="append",
        metavar="LOOP",
        help="The loop for green tests: asyncio (the default), uvloop or trio. Give it more than "
        "once to run each test on several.",
    )
    group.addoption(
        "--green-patch",
        action="store_true",
        default=None,
        help="Make the blocking modules of the standard library green (patch_all), before "
        "conftest files and tests are imported.",
    )
    parser.addini("green", "Run all sync tests green.", type="bool", default=False)
    parser.addini("green_loop", "The loops for green tests.", type="args", default=["asyncio"])
    parser.addini("green_patch", "Call patch_all() early.", type="bool", default=False)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Patches first."""
    if early_config.known_args_namespace.green_patch or early_config.getini("green_patch"):
        _patch(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Checks what was asked for, and has green tests run green.

    Raises:
        pytest.UsageError: A loop is not known or not installed.
    """
    config.addinivalue_line(
        "markers",
        "green(*loops): run this sync test in a green function (verdigris), where await_ works. "
        "Loops are 'asyncio', 'uvloop', 'trio'; without any, those of --green-loop.",
    )
    config.addinivalue_line("markers", "no_green: run this test as ever, in spite of --green.")
    given: list[str] = config.getoption("green_loop") or config.getini("green_loop")
    loops: tuple[str, ...] = tuple(dict.fromkeys(given))
    if not loops:
        raise pytest.UsageError(f"green_loop is empty. Name one or more of {_listed()}.")
    for name in loops:
        problem = problem_with(name)
        if problem is not None:
            raise pytest.UsageError(f"--green-loop (or green_loop): {problem}")
    config.stash[CHOSEN_LOOPS] = loops
    config.stash[ALL] = bool(config.getoption("green") or config.getini("green"))
    if config.getoption("green_patch") or config.getini("green_patch"):
        # Late, where a conftest file has loaded the plugin: a warning names what was missed.
        _patch(config)
    config.pluginmanager.register(Running(), "verdigris-running")


def pytest_report_header(config: pytest.Config) -> str:
    """Names the loops."""
    tests = "all sync tests" if config.stash[ALL] else "marked tests"
    loops = config.stash[CHOSEN_LOOPS]
    patched = ", standard library patched" if config.stash.get(_PATCHED, False) else ""
    return f"green: {tests} on {', '.join(loops)}{patched}"


def problem_with(loop: object) -> str | None:
    """Says why tests can't run on a loop, and what to do; None if they can."""
    if loop not in LOOPS:
        return f"there is no loop {loop!r}. Name one or more of {_listed()}."
    assert isinstance(loop, str)
    if loop != "asyncio" and importlib.util.find_spec(loop) is None:
        return f"{loop} is not installed: pip install {loop}"
    return None


def _listed() -> str:
    return ", ".join(LOOPS)


def _patch(config: pytest.Config) -> None:
    if config.stash.get(_PATCHED, False):
        return
    config.stash[_PATCHED] = True
    # pytest and its plugins had to be there before. What they hold by name is none of the tests'.
    _patch_in_place._warned.update(_of_pytest(config))
    patch_all()
    when_imported("psycopg", patch_psycopg)


def _of_pytest(config: pytest.Config) -> Iterable[str]:
    """The modules that were loaded for pytest, its plugins included."""
    packages = {"_pytest", "pytest", "pluggy", "py", "execnet", "verdigris"}
    for plugin in config.pluginmanager.get_plugins():
        name = getattr(plugin, "__name__", None) or type(plugin).__module__
        if not _is_conftest(plugin):
            packages.add(str(name).partition(".")[0])
    return [name for name in list(sys.modules) if name.partition(".")[0] in packages]


def _is_conftest(plugin: object) -> bool:
    file = getattr(plugin, "__file__", None) or ""
    return file.endswith("conftest.py")
