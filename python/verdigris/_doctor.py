"""What `python -m verdigris doctor` tells.

It is for a process of its own: it imports greenlet to see what comes of that. What may crash runs
in further processes, so that the report is always printed.
"""

import platform
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

import verdigris
from verdigris import _engine, _sqlalchemy, _which_engine

#: A self-test takes a fraction of a second.
_LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    text: str
    #: What is unsafe, and what to do about it; empty if nothing is.
    unsafe: str = ""


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_verdigris() -> Finding:
    """The version of this package."""
    return Finding("verdigris", verdigris.__version__)


def check_engine(before: str) -> Finding:
    """The engine and why it is that one, once greenlet was imported.

    Args:
        before: The engine's name before that.
    """
    text = f"{_which_engine.name} ({_which_engine.reason})"
    if before != _which_engine.name:
        text += f"; {before} until greenlet is imported"
    return Finding("engine", text)


def check_interpreter() -> Finding:
    """CPython's version and build. One that is refused does not come this far."""
    build = "debug build" if sysconfig.get_config_var("Py_DEBUG") else "release build"
    jit = getattr(sys, "_jit", None)  # since 3.14
    if jit is not None:
        if jit.is_enabled():
            build += ", JIT on"
        else:
            build += ", JIT off" if jit.is_available() else ", no JIT"
    return Finding("CPython", f"{platform.python_version()}, {build}, with the GIL")


def check_platform() -> Finding:
    """The system, the processor, and the C library."""
    library = " ".join(filter(None, platform.libc_ver())) or "C library not known"
    return Finding("platform", f"{platform.system()} {platform.machine()}, {library}")


def check_stacks() -> Finding:
    """The size of the stacks, and what guards their ends."""
    if _which_engine.name != "native":
        return Finding("stacks", "none: greenlets have no stacks and no guard pages of their own")
    try:
        stats = _engine.stats()
    except RuntimeError as error:
        return Finding(
            "stacks",
            f"can't be made: {error}",
            f"native stacks can't be made ({error}). Set {_which_engine.VARIABLE}=greenlet.",
        )
    size = f"{stats['stack_size'] / 2**20:g} MiB of address space each"
    return Finding("stacks", f"{size}, guard pages by {stats['guard']}")


def check_greenlet() -> Finding:
    """Imports greenlet. That isolates it, changes the engine, or is refused."""
    version = _version("greenlet") or "of unknown version"
    try:
        _which_engine.import_greenlet()
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "greenlet":
            return Finding("greenlet", "not installed")
        if _which_engine.greenlet_is != "refused":
            # Others can't import it either.
            return Finding("greenlet", f"{version}, can't be imported: {error}")
        return Finding("greenlet", f"{version}, refused beside native stacks", str(error))
    if _which_engine.greenlet_is == "isolated":
        return Finding("greenlet", f"{version}, isolated: a thread of its own on each native stack")
    return Finding("greenlet", f"{version}, not isolated: it carries the functions")


def check_sqlalchemy() -> list[Finding]:
    """SQLAlchemy, if it is installed, and whether `_sqlalchemy` knows its series."""
    version = _version("sqlalchemy")
    if version is None:
        return []
    series = ".".join(version.split(".")[:2])
    known = f"series {series} is known"
    if series not in _sqlalchemy._SERIES:
        known = (
            f"series {series} is not known ({' and '.join(_sqlalchemy._SERIES)} are), "
            "and works with greenlets of its own only"
        )
    return [Finding("SQLAlchemy", f"{version}, {known}")]


def check_loops() -> Finding:
    """The loop libraries that are installed."""
    found = ["asyncio"]
    for name in "uvloop", "Trio", "curio":
        version = _version(name)
        if version is not None:
            found.append(f"{name} {version}")
    return Finding("loops", ", ".join(found))


def check_neighbours() -> list[Finding]:
    """Other packages that switch greenlets, if they are installed."""
    found = ((name, _version(name)) for name in ("gevent", "greenback", "Playwright"))
    return [Finding(name, version) for name, version in found if version is not None]


_A_FUNCTION_WAITS = """
import asyncio
from verdigris import _which_engine, async_def, await_

def function(number):
    for _ in range(3):
        await_(asyncio.sleep(0))
    return number

async def main():
    return await asyncio.gather(*(async_def(function, number) for number in range(20)))

assert asyncio.run(main()) == list(range(20)), "functions got the results of others"
print(_which_engine.name)
"""

# Where greenlet takes all native stacks for one, this ends with a signal.
_A_GREENLET_WAITS = """
import asyncio
from verdigris import _which_engine, async_def, await_
from greenlet import getcurrent, greenlet

def child(number):
    for _ in range(3):
        await_(asyncio.sleep(0))
        getcurrent().parent.switch(number)
    return number

def function(number):
    inner = greenlet(child)
    seen = [inner.switch(number)]
    while not inner.dead:
        await_(asyncio.sleep(0))
        seen.append(inner.switch())
    return seen

async def main():
    return await asyncio.gather(*(async_def(function, number) for number in range(20)))

results = asyncio.run(main())
assert results == [[n] * 4 for n in range(20)], "greenlets got the results of others"
print(_which_engine.name)
"""


def try_out(what: str, program: str) -> Finding:
    """Runs a program that prints the engine's name, and tells how it ended."""
    name = "self-test"
    # The very verdigris that runs here, however it was found.
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    command = [sys.executable, "-c", path + program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        ended = f"did not end in {_LIMIT_SECONDS} seconds"
    else:
        if done.returncode == 0:
            return Finding(name, f"{what}: right, on the engine {done.stdout.strip()}")
        if done.returncode < 0:
            ended = f"was ended by {_name_of_signal(-done.returncode)}"
        else:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            ended = f"failed with {last}"
    step = "Report this as a bug, with the lines above"
    if _which_engine.name == "native":
        step += f"; until then set {_which_engine.VARIABLE}=greenlet"
    return Finding(name, f"{what}: {ended}", f"a program in which {what} {ended}. {step}.")


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def examine() -> list[Finding]:
    """All checks, in the order of the report."""
    before = _which_engine.name
    greenlet = check_greenlet()  # first: it may change the engine
    findings = [
        check_verdigris(),
        check_engine(before),
        check_interpreter(),
        check_platform(),
        check_stacks(),
        greenlet,
        *check_sqlalchemy(),
        check_loops(),
        *check_neighbours(),
        try_out("a function waits on asyncio", _A_FUNCTION_WAITS),
    ]
    if _which_engine.greenlet_is in ("isolated", "the engine"):
        findings.append(try_out("a greenlet in a function waits", _A_GREENLET_WAITS))
    return findings


def lines_of(findings: Iterable[Finding]) -> list[str]:
    """The report: a line for each finding, and one for each that is unsafe."""
    findings = list(findings)
    width = max(len(finding.name) for finding in findings)
    lines = [f"{finding.name:{width}}  {finding.text}" for finding in findings]
    return lines + [f"UNSAFE: {finding.unsafe}" for finding in findings if finding.unsafe]


def main() -> int:
    """Prints the report. Returns the exit code: 0 if all is safe, 1 if not."""
    findings = examine()
    print("\n".join(lines_of(findings)))
    return int(any(finding.unsafe for finding in findings))
