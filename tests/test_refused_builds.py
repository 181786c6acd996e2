"""Where no engine works there is no build: it ends with a text, and no wheel comes about.

`make refusals` runs these: each compiles for half a minute. The interpreters need not be there,
because the build is told of them; those that are there are asked in `test_platforms.py`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    "VERDIGRIS_REFUSED_BUILDS" not in os.environ, reason="`make refusals` builds what is refused"
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("target")


def refused(target: Path, tmp_path: Path, *arguments: str, **interpreter: str) -> str:
    """What cargo prints about a build for an interpreter that is described to it."""
    described = {
        "implementation": "CPython",
        "version": "3.14",
        "shared": "true",
        "pointer_width": "64",
        "build_flags": "",
        **interpreter,
    }
    config = tmp_path / "interpreter"
    config.write_text("".join(f"{name}={value}\n" for name, value in described.items()))
    done = subprocess.run(
        ["cargo", "check", "--locked", "--package", "verdigris-engine", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "CARGO_TARGET_DIR": str(target), "PYO3_CONFIG_FILE": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, "was not refused"
    return done.stderr


def test_for_a_free_threaded_build(target: Path, tmp_path: Path) -> None:
    text = refused(target, tmp_path, build_flags="Py_GIL_DISABLED")
    assert "needs the GIL" in text and "Use the default build" in text


@pytest.mark.parametrize(("name", "version"), [("PyPy", "3.11"), ("GraalVM", "3.12")])
def test_for_another_implementation(target: Path, tmp_path: Path, name: str, version: str) -> None:
    text = refused(target, tmp_path, implementation=name, version=version)
    assert f"this interpreter is {name}" in text and "Use CPython 3.11 or newer" in text


def test_for_a_version_that_is_too_old(target: Path, tmp_path: Path) -> None:
    text = refused(target, tmp_path, version="3.10")
    assert "needs CPython 3.11 or newer, and this is 3.10" in text


def test_for_windows(target: Path, tmp_path: Path) -> None:
    """The toolchain for Windows need not be there: its crates fail, and the build script runs."""
    windows = ("--keep-going", "--target", "x86_64-pc-windows-gnu")
    text = refused(target, tmp_path, *windows, lib_name="python314", lib_dir="/nowhere")
    assert "this is windows" in text and "WSL 2" in text
