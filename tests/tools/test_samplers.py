"""Tools that look into a process from outside, or that run a program under themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_callers, python_path

PROGRAM = """
import asyncio, sys
from verdigris import async_def, await_, ensure_portal

def spins():
    print("ready", flush=True)
    while True:
        sum(range(100))

def runs_here():
    await_(asyncio.sleep(0.01))
    spins()

def waits_here():
    await_(asyncio.sleep(1000))

def waits_above():
    waits_here()

async def in_portal():
    await ensure_portal()
    waits_above()

async def drives():
    await async_def(runs_here)

async def main():
    tasks = [
        asyncio.create_task(async_def(waits_above), name="waits"),
        asyncio.create_task(in_portal(), name="waits in a portal"),
    ]
    if "wait" in sys.argv:
        async def says():
            print("ready", flush=True)
            await asyncio.sleep(1000)
        await says()
    await drives()

asyncio.run(main())
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path(), "PYTHON_COLORS": "0"}


def start(program: Path, *args: str) -> Iterator[int]:
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), *args], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def spinning(tmp_path: Path) -> Iterator[int]:
    yield from start(tmp_path / "program.py")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[int]:
    yield from start(tmp_path / "program.py", "wait")


def look(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    if done.returncode != 0 and "ermission" in done.stdout + done.stderr:
        pytest.skip("this system does not let one process look into another")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_order(text: str, *names: str) -> bool:
    at = 0
    for name in names:
        at = text.find(name, at)
        if at < 0:
            return False
        at += len(name)
    return True


def program_of(package: str) -> str:
    found = shutil.which(package, path=sysconfig.get_path("scripts")) or shutil.which(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return found


@needs_callers
def test_py_spy_sees_a_running_function_down_to_the_loop(spinning: int) -> None:
    py_spy = program_of("py-spy")
    text = look(py_spy, "dump", "--pid", str(spinning))
    assert in_order(text, "spins", "runs_here", "drives", "main", "_run_once"), text


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio's ps came with Python 3.14")
def test_asyncio_lists_the_tasks_of_another_process(waiting: int) -> None:
    text = look(sys.executable, "-m", "asyncio", "pstree", str(waiting))
    assert "waits" in text and "waits in a portal" in text, text
    text = look(sys.executable, "-m", "asyncio", "ps", str(waiting))
    assert "waits" in text and "waits in a portal" in text, text


@pytest.mark.skipif(sys.version_info < (3, 15), reason="the sampler came with Python 3.15")
def test_the_sampling_profiler_sees_a_running_function_down_to_the_loop(spinning: int) -> None:
    sampling = (sys.executable, "-m", "profiling.sampling")
    text = look(*sampling, "dump", str(spinning))
    names = ["spins", "runs_here", "drives", "main", "_run_once"]
    assert in_order(text, *names) or in_order(text, *reversed(names)), text


def test_memray_runs_a_program(tmp_path: Path) -> None:
    memray = pytest.importorskip("memray", reason="memray is not installed")
    (tmp_path / "program.py").write_text(
        "import asyncio\n"
        "from verdigris import async_def, await_\n"
        "def allocates():\n"
        "    await_(asyncio.sleep(0))\n"
        "    held = bytearray(3_000_001)\n"
        "    await_(asyncio.sleep(0))\n"
        "    return len(held)\n"
        "async def main():\n"
        "    await async_def(allocates)\n"
        "asyncio.run(main())\n"
    )
    for options in [], ["--native"], ["--trace-python-allocators"]:
        results = tmp_path / "results.bin"
        look(
            *(sys.executable, "-m", "memray", "run", "-q", "-f", *options),
            *("-o", str(results), str(tmp_path / "program.py")),
        )
        sizes = [record.size for record in memray.FileReader(results).get_allocation_records()]
        assert any(3_000_000 < size < 3_001_000 for size in sizes)
