"""Interpreters that no engine works in say so themselves, where the machine has them.

`test_unsupported.py` disguises the interpreter that runs the tests; here real ones are asked.
`scripts/free-threaded` makes a free-threaded CPython, and scripts/sid-chroot has PyPy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import verdigris

PACKAGE = Path(verdigris.__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verdigris"


def find(*names: str) -> str | None:
    """The first of these programs that runs: scripts/free-threaded's, pyenv's, or on PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    # pyenv's shims stand on PATH for versions that are not active, and fail.
    directories = [
        CACHE / "free-threaded" / "installed" / "bin",
        *sorted(pyenv.glob("versions/*/bin")),
        *map(Path, os.get_exec_path()),
    ]
    for name in names:
        for program in (directory / name for directory in directories):
            if os.access(program, os.X_OK) and runs(program):
                return str(program)
    return None


def runs(program: Path) -> bool:
    return subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0


def error_of_import(interpreter: str, tmp_path: Path) -> str:
    """What `import verdigris` raises there, with the package's Python files and no engine."""
    shutil.copytree(
        PACKAGE,
        tmp_path / "verdigris",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    program = """
try:
    import verdigris
except ImportError as error:
    print(type(error).__name__, error)
"""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [interpreter, "-c", program],
        env={**keep, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ImportError "), done.stdout
    return done.stdout


def test_a_free_threaded_cpython(tmp_path: Path) -> None:
    interpreter = find("python3.15t", "python3.14t", "python3.13t")
    if interpreter is None:
        pytest.skip("no free-threaded CPython here; scripts/free-threaded makes one")
    text = error_of_import(interpreter, tmp_path)
    assert "free-threaded build" in text and "Use the default build" in text


@pytest.mark.parametrize("name", ["pypy3", "graalpy"])
def test_another_implementation(name: str, tmp_path: Path) -> None:
    interpreter = find(name)
    if interpreter is None:
        pytest.skip(f"no {name} here")
    text = error_of_import(interpreter, tmp_path)
    assert name.rstrip("3") in text and "Run the program on CPython" in text


@pytest.mark.parametrize("version", ["3.10", "3.9", "3.8"])
def test_an_older_cpython(version: str, tmp_path: Path) -> None:
    """The check itself is in words that an older Python reads."""
    interpreter = find(f"python{version}")
    if interpreter is None:
        pytest.skip(f"no CPython {version} here")
    text = error_of_import(interpreter, tmp_path)
    assert f"needs CPython 3.11 or newer, and this is {version}" in text


def test_files_without_an_engine(tmp_path: Path) -> None:
    text = error_of_import(sys.executable, tmp_path)
    assert "has no engine for this CPython {}.{}".format(*sys.version_info[:2]) in text
    assert "pip install verdigris" in text
