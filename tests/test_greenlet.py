"""greenlet in the same process: to it each native stack is a thread of its own."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from conftest import needs_native_stacks

from verdigris import _engine

# Not imported here: it would stay loaded for the tests of this process.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="greenlet is not installed"
)


@pytest.mark.parametrize("first", [1, 1000])
def test_anything_mixed_by_chance(python: Any, first: int) -> None:
    switches, refused = map(int, python("greenlets.py", first, 6, 150).stdout.split())
    assert switches > 100 and refused > 100


@pytest.mark.parametrize("first_import", ["greenlet", "verdigris"])
def test_a_greenlet_in_a_function_waits(python: Any, first_import: str) -> None:
    done = python(
        f"""
        import {first_import}
        import asyncio
        from greenlet import getcurrent, greenlet
        from verdigris import async_def, await_

        def child(name):
            for _ in range(3):
                await_(asyncio.sleep(0))
                getcurrent().parent.switch(name)
            return "end"

        def function(name):
            inner = greenlet(child)
            seen = [inner.switch(name)]
            while not inner.dead:
                await_(asyncio.sleep(0))
                seen.append(inner.switch())
            return seen

        async def main():
            return await asyncio.gather(*(async_def(function, n) for n in range(50)))

        assert asyncio.run(main()) == [[n, n, n, "end"] for n in range(50)]
        print("right")
        """
    )
    assert done.stdout == "right\n"


@needs_native_stacks
def test_greenlet_is_imported_while_functions_run_and_wait(python: Any) -> None:
    done = python(
        """
        import sys, threading
        from hand_driver import suspend
        from verdigris import async_def, await_

        def use():
            import greenlet
            def child():
                await_(suspend())
                greenlet.getcurrent().parent.switch(1)
                return 2
            inner = greenlet.greenlet(child)
            return inner.switch(), inner.switch()

        def waits_then_uses():
            await_(suspend())
            return use()

        def result_of(function):
            try:
                while True:
                    function.send(None)
            except StopIteration as end:
                return end.value

        def elsewhere():
            function = async_def(waits_then_uses)
            function.send(None)
            begun.set()
            go_on.wait()
            results.append(result_of(function))

        results, begun, go_on = [], threading.Event(), threading.Event()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        begun.wait()
        early, late = async_def(waits_then_uses), async_def(waits_then_uses)
        early.send(None)
        late.send(None)
        assert "greenlet" not in sys.modules
        results.append(result_of(late))
        results.append(result_of(early))
        go_on.set()
        thread.join()
        print(results)
        """
    )
    assert done.stdout == "[(1, 2), (1, 2), (1, 2)]\n"


@needs_native_stacks
def test_the_wrong_stack_is_an_error_and_what_is_dropped_there_ends_later(python: Any) -> None:
    done = python(
        """
        from greenlet import error, getcurrent, greenlet
        from hand_driver import finish
        from verdigris import _engine, async_def

        held = []

        def leaves_one():
            def child():
                try:
                    getcurrent().parent.switch()
                finally:
                    print("ended")
            held.append(greenlet(child))
            held[0].switch()

        finish(async_def(leaves_one))
        try:
            held[0].switch()
        except error as refusal:
            print("different thread" in str(refusal), "native stack" in refusal.__notes__[0])
        held.clear()
        print("dropped")
        finish(async_def(lambda: None))
        print(_engine.stats()["stacks_in_use"])
        """
    )
    assert done.stdout.split("\n")[:-1] == ["True True", "dropped", "ended", "0"]


def test_each_greenlet_has_its_context_and_its_handled_exception(python: Any) -> None:
    done = python(
        """
        import asyncio, contextvars, sys
        from greenlet import getcurrent, greenlet
        from verdigris import async_def, await_

        variable = contextvars.ContextVar("variable", default="unset")

        def child():
            variable.set("the greenlet's")
            try:
                raise KeyError("the greenlet's")
            except KeyError as error:
                await_(asyncio.sleep(0))
                getcurrent().parent.switch()
                await_(asyncio.sleep(0))
                assert sys.exc_info()[1] is error
            assert variable.get() == "the greenlet's"

        def function():
            variable.set("the task's")
            inner = greenlet(child)
            inner.switch()
            assert sys.exc_info()[1] is handled
            await_(asyncio.sleep(0))
            assert sys.exc_info()[1] is handled
            inner.switch()
            assert inner.dead and variable.get() == "the task's"

        async def other():
            for _ in range(5):
                assert variable.get() == "unset" and sys.exc_info()[1] is handled
                await asyncio.sleep(0)

        async def main():
            task = asyncio.create_task(other())
            await asyncio.create_task(async_def(function))
            await task
            assert variable.get() == "unset"

        handled = None
        asyncio.run(main())
        try:
            raise ValueError("the driver's")
        except ValueError as error:
            handled = error
            asyncio.run(main())
            assert sys.exc_info()[1] is error
        print("right")
        """
    )
    assert done.stdout == "right\n"


def test_a_greenlet_that_ends_takes_no_context_of_the_driver_along(python: Any) -> None:
    done = python(
        """
        import sys, threading
        from greenlet import getcurrent, greenlet
        from hand_driver import suspend
        from verdigris import async_def, await_

        def function():
            child = greenlet(waits)
            child.switch(getcurrent())
            # It has run with the driver's context, and is killed.
            del child
            print(sys.getrefcount(context) - before)
            await_(suspend())

        def waits(parent):
            await_(suspend())
            parent.switch()

        def thread():
            # A new greenlet has no context yet, nor has one that it drives.
            greenlet(coroutine.send).switch(None)
            greenlet(outer).switch()

        def outer():
            global context, before
            inner = async_def(lambda: await_(suspend()))
            inner.send(None)
            context = getcurrent().gr_context
            before = sys.getrefcount(context)
            coroutine.send(None)
            print(sys.getrefcount(context) - before, getcurrent().gr_context is context)
            coroutine.close()
            inner.close()

        coroutine = async_def(function)
        thread()
        """
    )
    # The portable build holds the driver's context while the function runs.
    held = 0 if _engine.knows_thread_state else 1
    assert done.stdout == f"{held}\n0 True\n"


@needs_native_stacks
def test_threads_that_end_leave_no_state_behind(python: Any) -> None:
    done = python(
        """
        import gc, threading
        from greenlet import greenlet
        from greenlet._greenlet import get_total_main_greenlets
        from hand_driver import suspend
        from verdigris import async_def, await_

        def use():
            return greenlet(lambda: await_(suspend())).switch()

        def thread(barrier):
            functions = [async_def(use) for _ in range(5)]
            for function in functions:
                function.send(None)
            barrier.wait()
            for function in functions:
                try:
                    function.send(None)
                except StopIteration:
                    pass

        def run(count):
            for _ in range(count):
                # Two at a time: one may not take away what the other could use.
                barrier = threading.Barrier(2)
                pair = [threading.Thread(target=thread, args=(barrier,)) for _ in range(2)]
                for one in pair:
                    one.start()
                for one in pair:
                    one.join()
            gc.collect()
            for _ in range(1000):
                pass  # greenlet frees a thread's own state by a pending call
            return get_total_main_greenlets()

        before = run(5)
        print(run(50) - before)
        """
    )
    assert int(done.stdout) <= 5
