"""`python -m verdigris script.py`: a sync program, run green from its first line to its last.

The stdlib is patched in place, and the program's code runs as `__main__` in a green function on a
loop of its own. Its threads are green threads. What the interpreter does around a program is done
here in the same order: the traceback or the exit code, then threads that are not daemons are
joined, then the interpreter's own end with `atexit`.
"""

import atexit
import builtins
import importlib
import importlib.machinery
import importlib.util
import io
import os
import pkgutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any

from verdigris import _inner_loop, _signal_handlers
from verdigris._blocking_detector import detect_blocking_from_environment
from verdigris._engine import async_def, leave_behind
from verdigris._held_originals import PatchWarning
from verdigris._patch_in_place import patch_all
from verdigris._psycopg import patch_psycopg
from verdigris._when_imported import when_imported
from verdigris.green import _wait
from verdigris.loops import _reactors
from verdigris.loops._task import SECONDS_TO_END

LOOPS = ("asyncio", "uvloop", "trio")

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

# A module that leaves `sys.modules` must not lose its names while its code runs.
_kept: list[object] = []


class NoProgram(Exception):
    """There is nothing to run. The text is what the interpreter says, the code what it exits with.

    Raised before anything of the program has run.
    """

    def __init__(self, text: str, code: int) -> None:
        """Takes the text and the exit code."""
        super().__init__(text)
        self.code = code


Find = Callable[[ModuleType], CodeType]


def run(program: list[str], loop: str = "asyncio", trace: str | None = None) -> int:
    """Runs a program green.

    Args:
        program: The arguments as the interpreter has them: `["script.py", ...]`, `["-m", "module",
            ...]`, `["-c", "code", ...]` or `["-", ...]`.
        loop: The name of the loop.
        trace: The file for a timeline of the program (`verdigris.inspect.trace`), if any.

    Returns:
        The exit code. A program that ends by KeyboardInterrupt ends the process by SIGINT.

    Raises:
        NoProgram: The loop is not installed, or the file for the timeline can't be written.
    """
    run_on = _loop_runner(loop)
    with warnings.catch_warnings():
        # Of what the loop has loaded. The program could not patch earlier.
        warnings.simplefilter("ignore", PatchWarning)
        patch_all()
    when_imported("psycopg", patch_psycopg)
    main = _Main(program)
    with ExitStack() as stack:
        if trace is not None:
            from verdigris import inspect

            try:
                stack.enter_context(inspect.trace(trace))
            except OSError as error:
                raise NoProgram(f"the trace can't be written: {error}", 2) from error
        run_on(main)
    if main.interrupted:
        _end_by_sigint()
    return main.code


class _Main:
    """The program's main function, and how it ended."""

    def __init__(self, program: list[str]) -> None:
        self.program = program
        self.code = 0
        self.interrupted = False

    def __call__(self) -> None:
        """Runs the program and joins its threads. Runs green."""
        process = os.getpid()
        # Made now, where no Ctrl-C of the program's user can come between.
        _reactors.of_running_loop()
        _inner_loop.allow()
        with _as_main_thread(), detect_blocking_from_environment():
            self._report(self._run)
            self._report(_end_threads)
            if os.getpid() != process:
                # The child of a fork, in which the loop does not run. There is no way back to it.
                self._end_process()

    def _run(self) -> None:
        module = ModuleType("__main__")
        module.__dict__.update(__builtins__=builtins, __spec__=None, __file__=None)
        del module.__file__
        _kept.append(sys.modules["__main__"])
        sys.modules["__main__"] = module
        code = _find(self.program, module)
        exec(code, module.__dict__)

    def _end_process(self) -> None:
        """Ends the process here, as the interpreter does at the end of a program."""
        if self.interrupted:
            _end_by_sigint()
        _finalize()
        os._exit(self.code & 0xFF)

    def _report(self, part: Callable[[], None]) -> None:
        """Does a part of the program's life, and what the interpreter does at its end."""
        try:
            part()
        except NoProgram as error:
            print(f"{sys.executable}: {error}", file=sys.stderr)
            self.code = error.code
        except SystemExit as error:
            self.code = _exit_code(error.code)
        except BaseException as error:
            self.code = 1
            self.interrupted = isinstance(error, KeyboardInterrupt)
            _print(error)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    _flush()
    print(code, file=sys.stderr)
    return 1


def _print(error: BaseException) -> None:
    """Shows an exception that nobody has caught, without what stands above the program."""
    trace = _of_program(error.__traceback__, error)
    error.__traceback__ = trace
    try:
        sys.excepthook(type(error), error, trace)
    except Exception as failed:
        print("Error in sys.excepthook:", file=sys.stderr)
        traceback.print_exception(failed)
        print("\nOriginal exception was:", file=sys.stderr)
        traceback.print_exception(error)
    _flush()


def _of_program(trace: TracebackType | None, error: BaseException) -> TracebackType | None:
    """The traceback without the frames of verdigris."""
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    last = trace
    while last is not None and last.tb_next is not None:
        below = last.tb_next
        if isinstance(error, KeyboardInterrupt) and _waits(below.tb_frame):
            # It came while the program waited. How the loop does that is not the program's.
            last.tb_next = None
        elif not _is_ours(below.tb_frame):
            last = below
        else:
            last.tb_next = below.tb_next
    return trace


def _waits(frame: FrameType) -> bool:
    return _is_ours(frame) or frame.f_globals.get("__name__") == "trio._core._traps"


def _is_ours(frame: FrameType) -> bool:
    # Trio's module has the handler that raises KeyboardInterrupt where the program computes.
    return frame.f_globals.get(
        "__name__"
    ) == "trio._core._ki" or frame.f_code.co_filename.startswith((_PACKAGE, "<frozen runpy>"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _as_main_thread() -> AbstractContextManager[object]:
    """Makes the main function the main thread, as `threading` tells threads apart."""
    try:
        green: Any = importlib.import_module("verdigris.green.threading")
    except ModuleNotFoundError:  # until there is one
        return nullcontext(
            threading._active.setdefault(  # type: ignore[attr-defined]
                threading.get_ident(), threading.main_thread()
            )
        )
    found: AbstractContextManager[object] = green._as_main_thread()
    return found


def _end_threads() -> None:
    """What the interpreter's `threading._shutdown` does, where green threads can still run."""
    for call in reversed(list(threading._threading_atexits)):  # type: ignore[attr-defined]
        call()
    main = threading.main_thread()
    while True:
        left = [t for t in threading.enumerate() if not t.daemon and t is not main and t.is_alive()]
        if not left:
            return
        for thread in left:
            thread.join()


def _finalize() -> None:
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _flush()


def _end_by_sigint() -> None:
    """Ends the process as the interpreter does after an uncaught KeyboardInterrupt.

    Who waits for it sees that it was interrupted, as shells do to stop a script.
    """
    _finalize()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


# --- what to run -------------------------------------------------------------


def _find(program: list[str], module: ModuleType) -> CodeType:
    """Finds the code, and sets `sys.argv`, `sys.path` and the module as the interpreter does."""
    match program:
        case ["-m", name, *arguments]:
            # The name is found with the path that the program will have.
            _set_path(os.getcwd())
            sys.argv[:] = ["-m", *arguments]
            return _module(name, module)
        case ["-c", source, *arguments]:
            _set_path("")
            sys.argv[:] = ["-c", *arguments]
            return compile(source, "<string>", "exec", dont_inherit=True)
        case ["-", *arguments]:
            _set_path("")
            sys.argv[:] = ["-", *arguments]
            module.__dict__["__file__"] = "<stdin>"
            return compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True)
        case [path, *arguments]:
            sys.argv[:] = [path, *arguments]
            return _script(path, module)
    raise NoProgram("there is nothing to run", 2)


def _set_path(first: str) -> None:
    if sys.flags.safe_path:
        return
    # There is already one: that of `python -m verdigris`, or of the console script.
    sys.path[0] = first


def _script(path: str, module: ModuleType) -> CodeType:
    full = os.path.abspath(path)
    if pkgutil.get_importer(full) is not None:
        # A directory or an archive with a `__main__`.
        sys.path.insert(0, full) if sys.flags.safe_path else _set_path(full)
        return _module("__main__", module, found_as=path)
    _set_path(os.path.dirname(os.path.realpath(full)))
    try:
        with io.open_code(full) as file:
            code: CodeType | None = pkgutil.read_code(file)
        if code is None:
            with io.open_code(full) as file:
                source = file.read()
    except OSError as error:
        raise NoProgram(
            f"can't open file {full!r}: [Errno {error.errno}] {error.strerror}", 2
        ) from None
    module.__dict__.update(
        __file__=full,
        __cached__=None,
        __loader__=importlib.machinery.SourceFileLoader("__main__", full),
        __package__=None,
    )
    return compile(source, full, "exec", dont_inherit=True) if code is None else code


def _module(name: str, module: ModuleType, found_as: str | None = None) -> CodeType:
    shown = found_as or name
    try:
        # Ours is in its place; a `__main__` of a directory is another one.
        hidden = sys.modules.pop("__main__") if found_as else None
        try:
            spec = importlib.util.find_spec(name)
        finally:
            if hidden is not None:
                sys.modules["__main__"] = hidden
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        if found_as or not isinstance(error, ModuleNotFoundError) or not _is_part(error.name, name):
            raise NoProgram(
                f"Error while finding module specification for {shown!r} "
                f"({type(error).__name__}: {error})",
                1,
            ) from error
        raise NoProgram(
            f"Error while finding module specification for {name!r} "
            f"({type(error).__name__}: {error})",
            1,
        ) from None
    if spec is None:
        what = (
            f"can't find '__main__' module in {shown!r}" if found_as else f"No module named {name}"
        )
        raise NoProgram(what, 1)
    if spec.submodule_search_locations is not None:
        if name.endswith(".__main__"):
            raise NoProgram("Cannot use package as __main__ module", 1)
        try:
            return _module(f"{name}.__main__", module)
        except NoProgram as error:
            raise NoProgram(
                f"{error}; {name!r} is a package and cannot be directly executed", 1
            ) from None
    loader: Any = spec.loader
    code: CodeType | None = loader.get_code(name) if hasattr(loader, "get_code") else None
    if code is None:
        raise NoProgram(f"No code object available for {name}", 1)
    module.__dict__.update(
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=loader,
        __package__=spec.parent,
        __spec__=spec,
    )
    sys.argv[0] = found_as or spec.origin or name
    return code


def _is_part(missing: str | None, name: str) -> bool:
    return missing is not None and f"{name}.".startswith(f"{missing}.")


# --- the loops ---------------------------------------------------------------


def _loop_runner(name: str) -> Callable[[Callable[[], None]], None]:
    # What the package itself needs of a loop is loaded before the program and its locks are there.
    if name == "trio":
        trio = _import_loop("trio")
        importlib.import_module("verdigris.loops._trio")
        return lambda main: trio.run(_OnTrio(main).run)
    importlib.import_module("verdigris.loops._asyncio")
    if name == "uvloop":
        uvloop = _import_loop("uvloop")
        return lambda main: _run_on_asyncio(main, uvloop.new_event_loop)
    import asyncio

    return lambda main: _run_on_asyncio(main, asyncio.new_event_loop)


def _import_loop(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise NoProgram(
            f"--loop {name} needs {name}, which is not installed: pip install {name}", 2
        ) from None


def _awaiting(make: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    async def main() -> Any:
        return await make()

    return main


class _OnAsyncio:
    """Steps the main function on asyncio, so that Ctrl-C is a KeyboardInterrupt where it waits.

    asyncio can only cancel a task. When the cancellation is that of an interruption, the function
    gets its error in its place.
    """

    def __init__(self, main: Callable[[], None]) -> None:
        self.coroutine: Any = async_def(main)
        self.task: Any = None
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        step, value = self.coroutine.send, None
        while True:
            try:
                waited_for = step(value)
            except StopIteration:
                return
            try:
                step, value = self.coroutine.send, (yield waited_for)
            except BaseException as error:
                step, value = self.coroutine.throw, self._meant(error)

    def _meant(self, error: BaseException) -> Any:
        if self.error is None:
            return error
        self.task.uncancel()
        meant, self.error = self.error, None
        return meant

    def interrupt(self, error: BaseException) -> bool:
        """Raises an error in it where it waits. False if it is over. Called in a handler."""
        if self.task is None or self.task.done():
            return False
        if self.error is None:
            self.task.cancel()
        self.error = error
        # The loop may be waiting for its descriptors, in C.
        self.task.get_loop().call_soon_threadsafe(lambda: None)
        return True

    def on_sigint(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if _wait.current() is self.coroutine:
            # It computes: the handler was called on its stack.
            raise KeyboardInterrupt
        self.interrupt(KeyboardInterrupt())


class _OnTrio:
    """Steps the main function on Trio, which by itself can only interrupt it by Ctrl-C."""

    def __init__(self, main: Callable[[], None]) -> None:
        self.coroutine: Any = async_def(main)
        self.error: BaseException | None = None
        self._task: Any = None
        self._token: Any = None

    async def run(self) -> None:
        """The main task."""
        trio: Any = sys.modules["trio"]
        self._task, self._token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        trios = signal.getsignal(signal.SIGINT)
        # Trio's raises KeyboardInterrupt in whatever function runs.
        own = getattr(trios, "__module__", None) == "trio._core._ki"
        handler = _sigint_handler(self)
        if own:
            signal.signal(signal.SIGINT, handler)
        _signal_handlers.deliver_to(self)
        try:
            await self
        finally:
            self._token = None
            if own and signal.getsignal(signal.SIGINT) is handler:
                signal.signal(signal.SIGINT, trios)

    def __await__(self) -> Generator[Any, Any, None]:
        step, value = self.coroutine.send, None
        while True:
            try:
                waited_for = step(value)
            except StopIteration:
                return
            try:
                step, value = self.coroutine.send, (yield waited_for)
            except BaseException as error:
                step, value = self.coroutine.throw, error
            if self.error is not None:
                # It came after the end of the wait, which can't be had back.
                step, value = self.coroutine.throw, self._taken()

    def interrupt(self, error: BaseException) -> bool:
        """Raises an error in it where it waits. False if it is over. Called in a handler."""
        if self._token is None:
            return False
        self.error = error
        self._token.run_sync_soon(self._end_wait)
        return True

    def on_sigint(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if _wait.current() is self.coroutine:
            raise KeyboardInterrupt
        self.interrupt(KeyboardInterrupt())

    def _end_wait(self) -> None:
        # As Trio does it for Ctrl-C. There is no public way to end a wait but to cancel a scope.
        if self.error is not None and self._task._abort_func is not None:
            self._task._attempt_abort(self._raise)

    def _raise(self) -> None:
        raise self._taken()

    def _taken(self) -> Any:
        error, self.error = self.error, None
        return error


def _run_on_asyncio(main: Callable[[], None], new_loop: Callable[[], Any]) -> None:
    loop = new_loop()
    stepped = _OnAsyncio(main)
    stepped.task = loop.create_task(_awaiting(lambda: stepped)())
    handler = _sigint_handler(stepped)
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # A signal may come just before the loop waits. uvloop and Trio see to that; asyncio does only
    # where it handles a signal itself, and ignores what it reads of others.
    wakeup = getattr(loop, "_csock", None)
    if wakeup is not None:
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    try:
        if own:
            signal.signal(signal.SIGINT, handler)
        _signal_handlers.deliver_to(stepped)
        loop.run_until_complete(stepped.task)
    finally:
        if own and signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _signal_handlers.deliver_to(None)
        if wakeup is not None:
            signal.set_wakeup_fd(-1)
        _close(loop)


def _sigint_handler(main: _OnAsyncio | _OnTrio) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        main.on_sigint(number, frame)

    handler._verdigris = True  # type: ignore[attr-defined]
    return handler


def _close(loop: Any) -> None:
    """Ends what daemon threads there are and closes the loop. Who does not end is left behind."""
    import asyncio

    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=SECONDS_TO_END))
    loop.run_until_complete(loop.shutdown_asyncgens())
    executor = getattr(loop, "_default_executor", None)
    if executor is not None:
        executor.shutdown(wait=False)
    for task in asyncio.all_tasks(loop):
        # It went on after its cancellation, and nothing runs it any more.
        leave_behind(task.get_coro())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
