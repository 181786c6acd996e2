"""coverage.py finds the lines and branches that ran, without any option for concurrency."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import ON_NATIVE_STACKS, python_path

pytest.importorskip("coverage", reason="coverage is not installed")

HERE = Path(__file__).parent
LAYERS = HERE / "layers.py"

needs_own_calls = pytest.mark.skipif(
    not ON_NATIVE_STACKS,
    reason="greenlets carry functions here, for which coverage.py has concurrency=greenlet",
)

# sys.monitoring tells branches from 3.14 on; with --branch coverage.py takes its C tracer before.
CORES = ["ctrace", "pytrace", *(["sysmon"] if sys.version_info >= (3, 12) else [])]


@cache
def measured(core: str, branches: bool, loop: str, way: str) -> dict[str, Any]:
    """What coverage.py's report says about layers.py."""
    with TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), python_path()]),
            "COVERAGE_CORE": core,
            "COVERAGE_FILE": os.path.join(directory, "data"),
            # Not the settings of the one who runs the tests.
            "COVERAGE_RCFILE": os.devnull,
        }
        report = os.path.join(directory, "report.json")
        for command in (
            [
                *("run", f"--include={LAYERS}", *(["--branch"] if branches else [])),
                *(str(HERE / "run_layers.py"), loop, way),
            ],
            ["json", "-q", "-o", report],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "coverage", *command],
                capture_output=True,
                text=True,
                timeout=120,
                cwd=directory,
                env=environment,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        (file,) = json.loads(Path(report).read_text())["files"].values()
        return dict(file)


# Lines are found with branches too; alone they are measured once for each core.
@needs_own_calls
@pytest.mark.parametrize(
    ("core", "branches", "way"),
    [
        *((core, False, "async_def") for core in CORES),
        *((core, True, "portal") for core in CORES),
        *(("ctrace", True, way) for way in ("async_def", "thread")),
    ],
)
def test_coverage_is_that_of_the_program_without_waits(
    loop: Any, core: str, branches: bool, way: str
) -> None:
    plain = measured(core, branches, "none", "-")
    never = [
        number
        for number, line in enumerate(LAYERS.read_text().splitlines(), 1)
        if line.endswith("# never")
    ]
    assert plain["missing_lines"] == never
    seen = measured(core, branches, loop.name, way)
    assert seen["missing_lines"] == never
    assert seen["executed_lines"] == plain["executed_lines"]
    if branches:
        assert seen["missing_branches"] == plain["missing_branches"]
        assert seen["executed_branches"] == plain["executed_branches"]


@needs_own_calls
def test_contexts_go_on_after_a_wait(python: Any, tmp_path: Path) -> None:
    """A dynamic context (a test's name) is that of the function that runs."""
    program = f"""
        import sys
        sys.path.insert(0, {str(HERE.parent)!r})
        from coverage import Coverage
        from hand_driver import finish, suspend

        from verdigris import async_def, await_

        measured = Coverage(data_file=None, include=["*/parts.py"])
        measured.set_option("run:dynamic_context", "test_function")
        measured.start()
        import parts
        first, second = async_def(parts.test_first), async_def(parts.test_second)
        first.send(None)
        second.send(None)
        for coroutine in first, second:
            try:
                coroutine.send(None)
            except StopIteration:
                pass
        measured.stop()
        data = measured.get_data()
        (file,) = data.measured_files()
        for line, contexts in sorted(data.contexts_by_lineno(file).items()):
            if any(contexts):
                print(line, *contexts)
    """
    (tmp_path / "parts.py").write_text(
        "from hand_driver import suspend\n"
        "from verdigris import await_\n"
        "def test_first():\n"
        "    await_(suspend())\n"
        "    first = 1\n"
        "def test_second():\n"
        "    await_(suspend())\n"
        "    second = 2\n"
    )
    environment = {
        "COVERAGE_CORE": "ctrace",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), python_path()]),
    }
    done = python(program, env=environment)
    assert done.stdout.splitlines() == [
        "4 parts.test_first",
        "5 parts.test_first",
        "7 parts.test_second",
        "8 parts.test_second",
    ]
