"""`python -m verdigris`: the arguments. What they ask for is in `_doctor`."""

import sys

USAGE = """\
usage: python -m verdigris doctor

  doctor    tell what verdigris finds here, try it, and say whether it is safe
"""


def main(arguments: list[str]) -> int:
    """Does what the arguments ask for, and returns the exit code."""
    match arguments:
        case [] | ["-h" | "--help"] | ["doctor", "-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case ["doctor"]:
            from verdigris import _doctor

            return _doctor.main()
    print(USAGE, end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
