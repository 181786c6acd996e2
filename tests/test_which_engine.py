"""Which engine carries the functions: what the environment asks for, and what greenlet leads to."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from conftest import needs_thread_state

needs_greenlet = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="greenlet is not installed"
)

# What every case needs. `plain` waits in a function, `nested` in a greenlet in one.
HELPERS = """
import asyncio
from verdigris import _which_engine, async_def, await_

def function(number):
    for _ in range(3):
        await_(asyncio.sleep(0))
    return number

def function_with_greenlet(number):
    from greenlet import getcurrent, greenlet

    def child():
        function(number)
        getcurrent().parent.switch("between")
        return function(number)

    inner = greenlet(child)
    seen = [inner.switch()]
    await_(asyncio.sleep(0))
    return [*seen, inner.switch()]

async def gather(fn):
    return await asyncio.gather(*(async_def(fn, number) for number in range(20)))

def plain():
    assert asyncio.run(gather(function)) == list(range(20))

def nested():
    assert asyncio.run(gather(function_with_greenlet)) == [["between", n] for n in range(20)]

def refused():
    try:
        import greenlet
    except ImportError as error:
        assert not isinstance(error, ModuleNotFoundError), error
        return str(error)
    raise AssertionError("greenlet was imported")
"""


@needs_thread_state
@needs_greenlet
def test_greenlet_is_isolated_where_it_can_be(python: Any) -> None:
    program = """
plain()
assert (_which_engine.name, _which_engine.greenlet_is) == ("native", None)
nested()
assert (_which_engine.name, _which_engine.greenlet_is) == ("native", "isolated")
plain()
"""
    python(HELPERS + program, env={"VERDIGRIS_ENGINE": ""})
    early = "import greenlet\n" + HELPERS + program.replace("None", "'isolated'")
    python(early, env={"VERDIGRIS_ENGINE": ""})


@needs_greenlet
@pytest.mark.parametrize("wanted", [pytest.param("native", marks=needs_thread_state), "greenlet"])
def test_the_environment_chooses(python: Any, wanted: str) -> None:
    python(
        HELPERS
        + f"""
plain(), nested()
assert _which_engine.name == {wanted!r}
assert _which_engine.reason == "VERDIGRIS_ENGINE={wanted}"
""",
        env={"VERDIGRIS_ENGINE": wanted},
    )


def test_the_environment_asks_for_nonsense(python: Any) -> None:
    done = python("import verdigris", check=False, env={"VERDIGRIS_ENGINE": "nonsense"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: VERDIGRIS_ENGINE is 'nonsense', and must be 'native' or 'greenlet', "
        "or not be set"
    )


def test_the_environment_asks_for_greenlets_that_are_not_there(python: Any) -> None:
    done = python(
        "import sys; sys.modules['greenlet'] = None; import verdigris",
        check=False,
        env={"VERDIGRIS_ENGINE": "greenlet"},
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ") and "pip install 'verdigris[greenlet]'" in last


@needs_greenlet
def test_unfindable_and_imported_before(python: Any, unfindable_greenlet: dict[str, str]) -> None:
    python(
        "import greenlet\n"
        + HELPERS
        + """
assert (_which_engine.name, _which_engine.greenlet_is) == ("greenlet", "the engine")
plain(), nested()
""",
        env=unfindable_greenlet,
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_and_imported_while_nothing_waits(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    python(
        HELPERS
        + """
plain()
assert _which_engine.name == "native"
import greenlet
assert (_which_engine.name, _which_engine.greenlet_is) == ("greenlet", "the engine")
assert "not found" in _which_engine.reason
plain(), nested()
""",
        env=unfindable_greenlet,
    )


@needs_greenlet
def test_unfindable_and_imported_beside_a_task_with_a_portal(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    python(
        HELPERS
        + """
from verdigris import ensure_portal

async def with_portal(event):
    await ensure_portal()
    before = function(1)
    await event.wait()  # by a native await, so no stack waits
    return before, function(2), function_with_greenlet(3)

async def main():
    event = asyncio.Event()
    task = asyncio.create_task(with_portal(event))
    for _ in range(9):
        await asyncio.sleep(0)
    import greenlet
    assert (_which_engine.name, _which_engine.greenlet_is) == ("greenlet", "the engine")
    event.set()
    assert await task == (1, 2, ["between", 3])

asyncio.run(main())
""",
        env=unfindable_greenlet,
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_and_imported_while_a_function_waits(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    python(
        HELPERS
        + """
async def main():
    task = asyncio.create_task(async_def(function, "right"))
    await asyncio.sleep(0)
    for _ in range(2):
        text = refused()
        assert "set VERDIGRIS_ENGINE=greenlet" in text and "before the first" in text, text
    assert (_which_engine.name, _which_engine.greenlet_is) == ("native", "refused")
    assert await task == "right"
    del task

asyncio.run(main())
plain()
import greenlet
assert (_which_engine.name, _which_engine.greenlet_is) == ("greenlet", "the engine")
plain(), nested()
""",
        env=unfindable_greenlet,
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_and_imported_while_a_function_waits_in_another_thread(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    python(
        HELPERS
        + """
import threading

waits, go_on, results = threading.Event(), threading.Event(), []

async def wait():
    waits.set()
    await asyncio.to_thread(go_on.wait)
    return "right"

thread = threading.Thread(
    target=lambda: results.append(asyncio.run(async_def(lambda: await_(wait()))))
)
thread.start()
waits.wait()
assert "set VERDIGRIS_ENGINE=greenlet" in refused()
go_on.set()
thread.join()
assert results == ["right"]
import greenlet
assert _which_engine.name == "greenlet"
plain(), nested()
""",
        env=unfindable_greenlet,
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_and_imported_by_a_function(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    python(
        HELPERS
        + """
def imports(number):
    text = refused()
    assert "set VERDIGRIS_ENGINE=greenlet" in text, text
    return function(number)

assert asyncio.run(gather(imports)) == list(range(20))
""",
        env=unfindable_greenlet,
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_in_another_thread_only(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    """There functions are refused, those that wait too; elsewhere they go on."""
    python(
        HELPERS
        + """
import threading
from hand_driver import finish, suspend

met, errors = threading.Event(), []

def refused_here(act):
    try:
        act()
    except RuntimeError as error:
        errors.append("VERDIGRIS_ENGINE=greenlet" in str(error))

def elsewhere(waits):
    waits.send(None)
    begun.set()
    met.wait()
    refused_here(lambda: waits.send(None))
    refused_here(lambda: finish(async_def(int)))
    assert waits.cr_suspended

begun = threading.Event()
thread = threading.Thread(target=elsewhere, args=[async_def(lambda: await_(suspend()))])
thread.start()
begun.wait()
import greenlet
assert _which_engine.greenlet_is == "isolated"
plain()
met.set()
thread.join()
assert errors == [True, True], errors
plain(), nested()
""",
        env=unfindable_greenlet | {"FINDABLE": "2", "PYTHONWARNINGS": "ignore"},
    )


@needs_thread_state
@needs_greenlet
def test_unfindable_where_native_stacks_are_asked_for(
    python: Any, unfindable_greenlet: dict[str, str]
) -> None:
    env = {**unfindable_greenlet, "VERDIGRIS_ENGINE": "native"}
    python(
        HELPERS
        + """
plain()
for _ in range(2):
    assert "Unset VERDIGRIS_ENGINE" in refused()
    assert (_which_engine.name, _which_engine.greenlet_is) == ("native", "refused")
    plain()
""",
        env=env,
    )
    done = python("import greenlet, verdigris", check=False, env=env)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: ") and "Unset VERDIGRIS_ENGINE" in last


@needs_thread_state
@needs_greenlet
def test_it_would_crash_unless_greenlet_were_met(python: Any) -> None:
    """What all this is for. Also the reason to believe the doctor's self-test."""
    done = python(
        """
        import asyncio
        import verdigris
        from verdigris import _doctor, _when_imported

        _when_imported._waiting.pop("greenlet._greenlet")
        exec(_doctor._A_GREENLET_WAITS, {"__name__": "__main__"})
        """,
        check=False,
        env={"VERDIGRIS_ENGINE": ""},
    )
    assert done.returncode != 0, done.stdout
