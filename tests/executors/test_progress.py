"""How far calls have come: `progress=`, with every runner."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from executors import calls
from verdigris import CallsFailed, Parallel, Serial

RUNNERS: list[Any] = [Parallel, Serial]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_function_is_told(loop: Any, runner: Any) -> None:
    told: list[tuple[int, int]] = []

    async def main() -> None:
        several = runner(progress=lambda *numbers: told.append(numbers))
        for number in range(4):
            several.schedule(calls.square, number)
        assert await several.run() == [0, 1, 4, 9]

    loop.run(main)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_with_a_limit_and_a_failure(loop: Any) -> None:
    told: list[tuple[int, int]] = []

    async def main() -> None:
        several = Parallel(limit=1, progress=lambda *numbers: told.append(numbers))
        several.schedule(calls.square, 1).schedule(calls.fails, "no").schedule(calls.square, 2)
        with pytest.raises(CallsFailed):
            await several.run()

    loop.run(main)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("how", ["run", "as_completed", "left", "serial"])
def test_a_bar(loop: Any, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")

    async def main() -> None:
        several: Any = Serial(progress=True) if how == "serial" else Parallel(progress=True)
        for number in range(3):
            several.schedule(calls.square, number)
        if how in ("run", "serial"):
            await several.run()
            return
        async with several.as_completed() as results:
            async for _ in results:
                if how == "left":
                    break

    loop.run(main)
    shown = capsys.readouterr().err
    assert ("1/3" if how == "left" else "3/3") in shown and shown.endswith("\n")


def test_without_tqdm_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        Parallel(progress=True).schedule(calls.square, 1).block()


def test_a_function_that_fails_ends_the_run(loop: Any) -> None:
    def tell(ended: int, total: int) -> None:
        raise LookupError("the display is gone")

    async def main() -> None:
        with pytest.raises(LookupError, match="display"):
            await Parallel(progress=tell).schedule(calls.square, 1).run()

    loop.run(main)
