"""`python -m verdigris` and the command `verdigris`: the arguments.

What they ask for is in `_run_script`, `inspect/_ps` and `_doctor`.
"""

import sys
from dataclasses import dataclass, field

USAGE = """\
usage: python -m verdigris [--loop LOOP] [--trace FILE]
                           (script.py | -m module | -c code | -) [arguments ...]
       python -m verdigris ps [--timeout SECONDS] PID
       python -m verdigris doctor

  script.py, -m, -c, -   run a sync program on an event loop: its waits do not block its threads,
                         which are green threads. The program needs no change
  --loop LOOP            asyncio (the default), uvloop or trio
  --trace FILE           write a timeline of its green functions, for Perfetto or chrome://tracing
  ps PID                 tell what waits in a running program, with stacks: one that was started
                         with VERDIGRIS_INSPECT=1, or any on CPython 3.14 and later
  doctor                 tell what verdigris finds here, try it, and say whether it is safe
"""


def main(arguments: list[str] | None = None) -> int:
    """Does what the arguments ask for, and returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    match arguments:
        case [] | ["-h" | "--help"] | ["doctor", "-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case ["doctor"]:
            from verdigris import _doctor

            return _doctor.main()
        case ["ps", *options]:
            from verdigris.inspect import _ps

            return _ps.main(options)
    asked = _split(arguments)
    if asked is None or not _is_program(asked.program):
        print(USAGE, end="", file=sys.stderr)
        return 2
    from verdigris import _run_script

    if asked.loop not in _run_script.LOOPS:
        print(
            f"verdigris: there is no loop {asked.loop!r}; choose from "
            f"{', '.join(_run_script.LOOPS)}",
            file=sys.stderr,
        )
        return 2
    try:
        return _run_script.run(asked.program, asked.loop, asked.trace)
    except _run_script.NoProgram as error:
        print(f"verdigris: {error}", file=sys.stderr)
        return error.code


@dataclass
class _Asked:
    """A program that is to be run, and how."""

    loop: str = "asyncio"
    trace: str | None = None
    program: list[str] = field(default_factory=list)


def _split(arguments: list[str]) -> _Asked | None:
    """Parses the options before the program; None if one of them lacks its value."""
    asked = _Asked()
    rest = arguments
    while rest:
        option, has_value, value = rest[0].partition("=")
        if option not in ("--loop", "--trace"):
            break
        rest = rest[1:]
        if not has_value:
            if not rest:
                return None
            value, rest = rest[0], rest[1:]
        setattr(asked, option.removeprefix("--"), value)
    asked.program = rest
    return asked


def _is_program(arguments: list[str]) -> bool:
    match arguments:
        case [] | ["doctor" | "ps", *_] | ["-m"] | ["-c"]:
            return False
        case ["-" | "-m" | "-c", *_]:
            return True
    return not arguments[0].startswith("-")


if __name__ == "__main__":
    sys.exit(main())
