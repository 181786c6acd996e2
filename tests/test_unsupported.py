"""Where the engine would crash, the import says what is wrong and what to use."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from verdigris import _engine


def refused(python: Any, prepare: str) -> str:
    """The text of the ImportError on an interpreter that `prepare` disguises."""
    done = python(
        f"""
import sys
{prepare}
try:
    import verdigris
except ImportError as error:
    print(error)
    assert "verdigris._engine" not in sys.modules, "loaded before it was checked"
else:
    raise AssertionError("was not refused")
"""
    )
    return str(done.stdout)


def test_a_version_that_is_too_old(python: Any) -> None:
    text = refused(python, "sys.version_info = (3, 10, 9, 'final', 0)")
    assert "3.10" in text and "3.11" in text


@pytest.mark.parametrize("version", ["(3, 16, 0)", "(4, 0, 0)"])
def test_a_version_it_does_not_know_yet(python: Any, version: str) -> None:
    """It is not refused: such an interpreter has a build without knowledge of it."""
    python(
        f"""
import sys, verdigris._interpreter
sys.version_info = (*{version}, "final", 0)
verdigris._interpreter.check()
"""
    )


# The extension comes first, and is disguised as a build for an interpreter it does not know.
ON_AN_UNKNOWN_THREAD_STATE = """
import os, sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location

package = find_spec("verdigris").submodule_search_locations[0]
# A checkout may hold those of several interpreters.
files = (os.path.join(package, "_engine" + suffix) for suffix in EXTENSION_SUFFIXES)
loader = ExtensionFileLoader("verdigris._engine", next(filter(os.path.exists, files)))
spec = spec_from_file_location("verdigris._engine", loader=loader)
engine = sys.modules["verdigris._engine"] = module_from_spec(spec)
loader.exec_module(engine)
engine.knows_thread_state = False
"""


def test_an_unknown_thread_state_means_greenlets(
    python: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("greenlet")
    monkeypatch.delenv("VERDIGRIS_ENGINE", raising=False)
    done = python(
        ON_AN_UNKNOWN_THREAD_STATE
        + """
import verdigris._which_engine
from hand_driver import finish, value
from verdigris import async_def, await_
print(verdigris._which_engine.name, "because", verdigris._which_engine.reason)
assert finish(async_def(lambda: await_(value(1)))) == 1
"""
    )
    version = "{}.{}".format(*sys.version_info[:2])
    reason = f"the thread state of CPython {version} is not known to this build"
    assert done.stdout == f"greenlet because {reason}\n"


def test_an_unknown_thread_state_and_native_stacks(
    python: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERDIGRIS_ENGINE", "native")
    text = python(
        ON_AN_UNKNOWN_THREAD_STATE
        + """
try:
    import verdigris
except ImportError as error:
    print(error)
"""
    ).stdout
    assert "VERDIGRIS_ENGINE=native" in text and "not known" in text
    assert "Unset VERDIGRIS_ENGINE" in text and "3.11 to 3.15" in text


def test_an_unknown_thread_state_without_greenlet(
    python: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VERDIGRIS_ENGINE", raising=False)
    text = python(
        ON_AN_UNKNOWN_THREAD_STATE
        + """
sys.modules["greenlet"] = None
try:
    import verdigris
except ImportError as error:
    print(error)
"""
    ).stdout
    assert "not known" in text and "pip install 'verdigris[greenlet]'" in text


@pytest.mark.skipif(_engine.knows_thread_state, reason="this build knows the thread state")
def test_nobody_gets_past_the_choice(python: Any) -> None:
    """The engine itself starts no function on a native stack that it can't switch."""
    text = python(
        ON_AN_UNKNOWN_THREAD_STATE
        + """
for _ in range(2):
    coroutine = engine.async_def(print, "ran")
    try:
        coroutine.send(None)
    except RuntimeError as error:
        print(error)
    coroutine.close()
"""
    ).stdout
    assert text.count("greenlets only") == 2 and "ran" not in text.split(), text


@pytest.mark.parametrize("name", ["pypy", "graalpy"])
def test_another_implementation(python: Any, name: str) -> None:
    text = refused(
        python,
        "import types; sys.implementation = "
        f"types.SimpleNamespace(**{{**vars(sys.implementation), 'name': '{name}'}})",
    )
    assert name in text and "CPython" in text


def test_windows(python: Any) -> None:
    text = refused(python, "sys.platform = 'win32'")
    assert "Windows" in text and "WSL 2" in text


def test_a_free_threaded_build(python: Any) -> None:
    text = refused(python, "sys.abiflags = 't'")
    assert "free-threaded" in text


IN_A_SUBINTERPRETER = """
import sys
code = '''
try:
    import verdigris
except ImportError as error:
    assert "interpreter" in str(error), error
else:
    raise AssertionError("was not refused")
'''
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
{first}
for _ in range(3):
    {make}
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    failed = run(sub, code)
    assert failed is None, failed
    interpreters.destroy(sub)
{last}
print("refused")
"""

MAKE = {
    "isolated": "sub = interpreters.create()",
    "legacy": "sub = interpreters.create('legacy') if sys.version_info >= (3, 13)"
    " else interpreters.create(isolated=False)",
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("imported_first", [False, True])
def test_a_subinterpreter(python: Any, kind: str, imported_first: bool) -> None:
    if sys.version_info >= (3, 13):
        pytest.importorskip("_interpreters")
    else:
        pytest.importorskip("_xxsubinterpreters")
    works = "from hand_driver import finish, value; import verdigris;"
    works += " assert finish(verdigris.async_def(lambda: verdigris.await_(value(1)))) == 1"
    done = python(
        IN_A_SUBINTERPRETER.format(
            first=works if imported_first else "", make=MAKE[kind], last=works
        )
    )
    assert done.stdout == "refused\n"
