"""Whole programs: exits with work queued, loops that end, patched programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_path

PREAMBLE = """
import asyncio, concurrent.futures, multiprocessing, os, sys, time
{patch}
from executors import calls
import verdigris
from verdigris import Parallel, async_def, to_async

def pool(kind):
    if kind == "threads":
        return concurrent.futures.ThreadPoolExecutor(2)
    context = multiprocessing.get_context(kind)
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)

def run(async_fn, *args):
    if loop == "trio":
        import trio
        return trio.run(async_fn, *args)
    factory = None
    if loop == "uvloop":
        import uvloop
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(async_fn(*args))

"""

KINDS = ["threads", "spawn", "forkserver"]


def program(directory: Path, loop: str, body: str, patched: bool = False) -> str:
    """Runs a program; fails if it takes 30 seconds, fails, or says something on stderr."""
    file = directory / "program.py"
    patch = "import verdigris; verdigris.patch_all()" if patched else ""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    main = f'if __name__ == "__main__":\n    loop = {loop!r}\n{lines}'
    file.write_text(PREAMBLE.format(patch=patch) + main)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name, reason=f"{name} is not installed")
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_exit_with_work_queued(library: str, kind: str, tmp_path: Path) -> None:
    """The stdlib's executors make what they have begun; what nobody waits for is taken back."""
    program(
        tmp_path,
        library,
        f"""
executor = pool({kind!r})
async def main():
    several = Parallel(executor=executor, timeout=0.3)
    for number in range(30):
        several.schedule(calls.sleep, 0.4, number)
    try:
        await several.run()
    except TimeoutError as error:
        assert "30 of 30 calls" in str(error), error
run(main)
""",
    )


# No forkserver: on 3.11 the stdlib's exit now and then writes to a pipe that is closed already.
@pytest.mark.parametrize("kind", ["threads", "spawn"])
def test_exit_with_what_the_program_submitted_itself(kind: str, tmp_path: Path) -> None:
    program(
        tmp_path,
        "asyncio",
        f"""
executor = pool({kind!r})
for number in range(6):
    executor.submit(calls.leaves_mark, "marks", number)
async def main():
    assert await to_async(calls.square, executor=executor)(2) == 4
run(main)
""",
    )
    assert len((tmp_path / "marks").read_text().split()) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_stops_under_a_runner(kind: str, tmp_path: Path) -> None:
    program(
        tmp_path,
        "asyncio",
        f"""
executor = pool({kind!r})
several = Parallel(executor=executor)
for number in range(8):
    several.schedule(calls.sleep, 0.1, number)
loop = asyncio.new_event_loop()
task = loop.create_task(several.run())
loop.run_until_complete(asyncio.sleep(0.05))
task._log_destroy_pending = False
loop.close()
assert executor.submit(calls.square, 3).result() == 9
""",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_patched_programs(library: str, kind: str, tmp_path: Path) -> None:
    program(
        tmp_path,
        library,
        f"""
executor = pool({kind!r})
def several():
    made = Parallel(executor=executor)
    for number in range(5):
        made.schedule(calls.square, number)
    return made
expected = [0, 1, 4, 9, 16]
async def main():
    assert await several().run() == expected
    assert await async_def(lambda: several().block()) == expected
    assert await async_def(lambda: sorted(one.result() for one in several().as_completed())) == \\
        expected
    assert await to_async(calls.square, executor=executor)(3) == 9
    def green():
        with pool({kind!r}) as own:
            assert Parallel(executor=own).schedule(calls.square, 6).block() == [36]
            return own.submit(calls.square, 5).result()
    assert await async_def(green) == 25
run(main)
assert several().block() == expected
executor.shutdown()
""",
        patched=True,
    )
