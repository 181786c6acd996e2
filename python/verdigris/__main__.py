"""`python -m verdigris` and the command `verdigris`: the arguments.

What they ask for is in `_run_script` and `_doctor`.
"""

import sys

USAGE = """\
usage: python -m verdigris [--loop LOOP] (script.py | -m module | -c code | -) [arguments ...]
       python -m verdigris doctor

  script.py, -m, -c, -   run a sync program on an event loop: its waits do not block its threads,
                         which are green threads. The program needs no change
  --loop LOOP            asyncio (the default), uvloop or trio
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
    loop, program = _split(arguments)
    if loop is None or not _is_program(program):
        print(USAGE, end="", file=sys.stderr)
        return 2
    from verdigris import _run_script

    if loop not in _run_script.LOOPS:
        print(
            f"verdigris: there is no loop {loop!r}; choose from {', '.join(_run_script.LOOPS)}",
            file=sys.stderr,
        )
        return 2
    try:
        return _run_script.run(program, loop)
    except _run_script.NoProgram as error:
        print(f"verdigris: {error}", file=sys.stderr)
        return error.code


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The name of the loop, None if there should be one; and what is to be run."""
    match arguments:
        case ["--loop", loop, *program]:
            return loop, program
        case ["--loop"]:
            return None, []
        case [first, *program] if first.startswith("--loop="):
            return first.removeprefix("--loop="), program
    return "asyncio", arguments


def _is_program(arguments: list[str]) -> bool:
    match arguments:
        case [] | ["doctor", *_] | ["-m"] | ["-c"]:
            return False
        case ["-" | "-m" | "-c", *_]:
            return True
    return not arguments[0].startswith("-")


if __name__ == "__main__":
    sys.exit(main())
