"""`python -m verdigris doctor`: the report, and its exit code."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Any

import pytest
from conftest import needs_thread_state

import verdigris

DEFAULT = {"VERDIGRIS_ENGINE": ""}
needs_greenlet = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="greenlet is not installed"
)


def report(done: Any) -> dict[str, str]:
    """The lines by their names; all lines of a name are one text. Checks that they are aligned."""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("UNSAFE: ")]
    column = len(max((line.split()[0] for line in lines), key=len)) + 2
    texts: dict[str, str] = {}
    for line in lines:
        name, text = line[:column].rstrip(), line[column:]
        assert line[column - 2 : column] == "  " and text and not text.startswith(" "), line
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    return texts


def unsafe(done: Any) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("UNSAFE: ")]


def installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@needs_thread_state
def test_the_report_names_what_is_here(python: Any) -> None:
    done = python("-m", "verdigris", "doctor", env=DEFAULT)
    said = report(done)
    assert not unsafe(done) and not done.stderr
    assert said["verdigris"] == verdigris.__version__
    assert said["engine"].startswith("native (")
    assert said["CPython"].startswith(platform.python_version() + ", ")
    assert "build" in said["CPython"] and "with the GIL" in said["CPython"]
    assert said["platform"].startswith(f"{platform.system()} {platform.machine()}, ")
    assert "MiB" in said["stacks"] and "guard pages by m" in said["stacks"]
    assert said["loops"].split(", ")[0] == "asyncio"
    for name in "uvloop", "Trio", "curio":
        assert (f"{name} {installed(name)}" in said["loops"]) == (installed(name) is not None)
    for name in "gevent", "greenback", "Playwright":
        assert said.get(name) == installed(name)
    assert ("SQLAlchemy" in said) == (installed("sqlalchemy") is not None)
    assert "a function waits on asyncio: right, on the engine native" in said["self-test"]


@needs_thread_state
@needs_greenlet
def test_greenlet_is_isolated(python: Any) -> None:
    said = report(python("-m", "verdigris", "doctor", env=DEFAULT))
    assert said["greenlet"].startswith(f"{installed('greenlet')}, isolated")
    assert "a greenlet in a function waits: right, on the engine native" in said["self-test"]


@needs_greenlet
def test_the_engine_on_greenlets(python: Any) -> None:
    done = python("-m", "verdigris", "doctor", env={"VERDIGRIS_ENGINE": "greenlet"})
    said = report(done)
    assert said["engine"] == "greenlet (VERDIGRIS_ENGINE=greenlet)"
    assert "greenlets have no stacks and no guard pages" in said["stacks"]
    assert "not isolated" in said["greenlet"] and not unsafe(done)
    assert said["self-test"].count(": right, on the engine greenlet") == 2


@needs_thread_state
@needs_greenlet
def test_greenlet_can_not_be_isolated(python: Any, unfindable_greenlet: dict[str, str]) -> None:
    done = python("-m", "verdigris", "doctor", env=unfindable_greenlet)
    said = report(done)
    assert said["engine"].startswith("greenlet (") and "was not found" in said["engine"]
    assert said["engine"].endswith("; native until greenlet is imported")
    assert "not isolated" in said["greenlet"] and not unsafe(done)
    assert "a function waits on asyncio: right, on the engine native" in said["self-test"]
    assert "a greenlet in a function waits: right, on the engine greenlet" in said["self-test"]


@needs_thread_state
@needs_greenlet
def test_greenlet_is_refused(python: Any, unfindable_greenlet: dict[str, str]) -> None:
    env = {**unfindable_greenlet, "VERDIGRIS_ENGINE": "native"}
    done = python("-m", "verdigris", "doctor", check=False, env=env)
    said = report(done)
    assert done.returncode == 1 and not done.stderr
    assert said["engine"] == "native (VERDIGRIS_ENGINE=native)"
    assert said["greenlet"].endswith("refused beside native stacks")
    (line,) = unsafe(done)
    assert "where greenlet keeps its state" in line and "Unset VERDIGRIS_ENGINE" in line
    assert done.stdout.splitlines()[-1] == line
    # The function is right: it is greenlet that can't be had.
    assert said["self-test"] == "a function waits on asyncio: right, on the engine native"


@needs_thread_state
def test_without_greenlet(python: Any) -> None:
    done = python(
        """
        import sys
        sys.modules["greenlet"] = None
        from verdigris import _doctor
        sys.exit(_doctor.main())
        """,
        env=DEFAULT,
    )
    said = report(done)
    assert said["greenlet"] == "not installed" and not unsafe(done)
    assert said["self-test"] == "a function waits on asyncio: right, on the engine native"


@needs_thread_state
def test_greenlet_is_broken(python: Any, tmp_path: Any) -> None:
    (tmp_path / "greenlet.py").write_text("raise ImportError('a library is missing')")
    done = python(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from verdigris import _doctor
        sys.exit(_doctor.main())
        """,
        env=DEFAULT,
    )
    assert report(done)["greenlet"].endswith(", can't be imported: a library is missing")
    assert not unsafe(done)


@pytest.mark.parametrize(
    ("series", "known"), [("2.0.58", True), ("2.1.9", True), ("1.4.54", False), ("3.0.0", False)]
)
def test_the_series_of_sqlalchemy(
    monkeypatch: pytest.MonkeyPatch, series: str, known: bool
) -> None:
    from verdigris import _doctor

    monkeypatch.setattr(_doctor, "_version", lambda distribution: series)
    (finding,) = _doctor.check_sqlalchemy()
    assert finding.text.startswith(f"{series}, series {series[:3]} is ") and not finding.unsafe
    assert ("is known" in finding.text) == known


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("raise ValueError('wrong')", "failed with ValueError: wrong"),
        ("import sys; sys.exit(3)", "failed with no message"),
        ("import time; time.sleep(60)", "did not end in 1 seconds"),
    ],
)
def test_a_self_test_goes_wrong(monkeypatch: pytest.MonkeyPatch, program: str, ended: str) -> None:
    from verdigris import _doctor

    monkeypatch.setattr(_doctor, "_LIMIT_SECONDS", 1 if "sleep" in program else 60)
    finding = _doctor.try_out("it", program)
    assert finding.text == f"it: {ended}"
    (line,) = _doctor.lines_of([finding])[1:]
    assert line.startswith(f"UNSAFE: a program in which it {ended}. Report this as a bug")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["doctor", "--help"]])
def test_usage(python: Any, arguments: list[str]) -> None:
    done = python("-m", "verdigris", *arguments)
    assert done.stdout.startswith("usage: python -m verdigris ") and not done.stderr


@pytest.mark.parametrize("arguments", [["doctor", "nurse"], ["doctor", "--fast"], ["--version"]])
def test_wrong_usage(python: Any, arguments: list[str]) -> None:
    done = python("-m", "verdigris", *arguments, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ") and not done.stdout


def test_a_verdigris_that_can_not_be_imported_says_why(python: Any) -> None:
    done = python("-m", "verdigris", "doctor", check=False, env={"VERDIGRIS_ENGINE": "nonsense"})
    assert done.returncode == 1
    assert "ImportError: VERDIGRIS_ENGINE is 'nonsense'" in done.stderr and not done.stdout
