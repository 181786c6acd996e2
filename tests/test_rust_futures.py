"""Rust futures, awaited from sync Python code: the module of the examples, built and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import once_is_enough

pytestmark = once_is_enough

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "rust-futures"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the module, built for this interpreter."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("cargo is not installed")
    environment = {
        **os.environ,
        "PYO3_PYTHON": sys.executable,
        # Kept between runs, one for each kind of interpreter.
        "CARGO_TARGET_DIR": str(
            ROOT / "target" / f"rust-futures-{sysconfig.get_config_var('SOABI')}"
        ),
    }
    manifest = f"--manifest-path={EXAMPLE / 'Cargo.toml'}"
    fetched = subprocess.run(
        [cargo, "fetch", "--locked", manifest],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode != 0:
        pytest.skip(f"the crates of the example can't be fetched: {fetched.stderr}")
    ran = subprocess.run(
        [cargo, "build", "--locked", "--offline", manifest],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    directory = tmp_path_factory.mktemp("module")
    library = Path(environment["CARGO_TARGET_DIR"]) / "debug" / "librust_futures.so"
    if sys.platform == "darwin":
        library = library.with_suffix(".dylib")
    shutil.copy(library, directory / "rust_futures.so")
    return directory


def test_sync_code_waits_for_futures_of_a_tokio_runtime(built: Path) -> None:
    path = os.pathsep.join([str(built), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE / "program.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout == "ONE! TWO!\nAlpha charlie delta\ntoo slow\n"
