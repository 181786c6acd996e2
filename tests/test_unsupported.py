"""Where the engine would crash, the import says what is wrong and what to use."""

from __future__ import annotations

import sys
from typing import Any

import pytest


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


@pytest.mark.parametrize("version", ["(3, 10, 9)", "(3, 16, 0)", "(4, 0, 0)"])
def test_a_version_it_does_not_know(python: Any, version: str) -> None:
    text = refused(python, f"sys.version_info = (*{version}, 'final', 0)")
    major, minor = version.strip("()").split(", ")[:2]
    assert f"{major}.{minor}" in text
    assert "3.11" in text and "3.15" in text


def test_another_implementation(python: Any) -> None:
    text = refused(
        python,
        "import types; sys.implementation = "
        "types.SimpleNamespace(**{**vars(sys.implementation), 'name': 'pypy'})",
    )
    assert "pypy" in text and "CPython" in text


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
